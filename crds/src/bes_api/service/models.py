"""Models, their latency profiles, and the accelerators that they run on or share."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from bes_api.quantities import DeviceClass, DottedName, Label, ModelID, ModelRevision
from bes_api.service.engine import Engine
from bes_api.service.part import BY_NAME, Count, ObjectReference, Part, Percent, Tokens
from bes_api.service.pod import EngineResources, PodClaim


class Sharing(StrEnum):
    """How models on one GPU share it."""

    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"


class AcceleratorGroup(Part):
    """GPUs that several models share: replica i of every model of the group sits on GPU i mod gpus."""

    name: Label
    """Its name."""
    device_class: DeviceClass = Field(alias="class")
    """Kind of its GPUs, for example A100-80GB."""
    gpus: Count
    """Number of its GPUs."""
    sharing: Sharing = Sharing.TIME_SLICING
    """How models share a GPU."""
    interference_percent: Percent | None = None
    """Share of a neighbour's busy time that a step loses; absent: 100 with TimeSlicing. MPS needs a measured figure."""


class ReplicaRange(Part):
    """Someone else (HPA, KEDA, a person) scales the model inside this range."""

    min: Count
    """Fewest replicas."""
    max: Count
    """Most replicas."""


class Accelerator(Part):
    """A model's place in a group."""

    group: Label
    """One of acceleratorGroups."""
    memory_percent: Annotated[int, Field(strict=True, ge=1, le=100)]
    """Memory of one GPU that one replica takes."""


class Profile(Part):
    """Where a model's latency profile comes from: exactly one member."""

    preset: DottedName | None = None
    """A profile that comes with the release, for example opt-1.3b."""
    config_map_ref: ObjectReference | None = None
    """A ConfigMap beside the service with a measured profile (bes profile writes one)."""


class Model(Part):
    """One model that the service may answer with."""

    name: DottedName
    """Its name, also for clients that pin it."""
    model_id: ModelID = Field(alias="modelID")
    """The model as its hub names it, for example facebook/opt-1.3b."""
    revision: ModelRevision | None = None
    """Branch, tag or commit on the hub; absent: the hub's default branch."""
    replicas: Count | None = None
    """Number of engines; or replicaRange."""
    replica_range: ReplicaRange | None = None
    """Someone else scales inside this range; or replicas."""
    context_tokens: Tokens
    """Tokens of prompt and answer together that an engine may hold for one request."""
    max_batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] | None = None
    """Sequences in one iteration; absent: the profile's."""
    resources: EngineResources | None = None
    """Resources of an engine, accelerators among them."""
    resource_claims: Annotated[tuple[PodClaim, ...], Field(max_length=8, json_schema_extra=BY_NAME)] | None = None
    """Device claims of an engine's pod."""
    accelerator: Accelerator | None = None
    """Absent: every replica has a GPU of its own."""
    profile: Profile | None = None
    """Latency; absent: the preset of modelID."""
    engine: Engine | None = None
    """What differs from the service's engine, member by member (of pod: too). Image and args are inherited only where
    the type is the same, volumes and volumeMounts only together."""

    @property
    def max_replicas(self) -> int:
        """Replicas at most; 0 where neither ``replicas`` nor ``replicaRange`` is set."""
        return self.replica_range.max if self.replica_range else self.replicas or 0
