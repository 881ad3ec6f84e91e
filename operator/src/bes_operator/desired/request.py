"""What the objects of a service follow from, and what follows: values that `desired_objects` takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bes_api.router_config import ConfiguredPolicy
from bes_api.service import BestEffortService
from bes_api.service_status import ConditionType, Reason
from bes_operator.manifest import FIELD_MANAGER, Apply, Key, Manifest
from bes_operator.settings import OperatorSettings

Files = Mapping[str, bytes]
"""Content by file name, as a pod finds it in the folder where a ConfigMap is mounted."""


@dataclass(frozen=True)
class PolicyPart:
    """What the way of a policy adds to the objects of a service."""

    policy: ConfiguredPolicy
    """What the routers' configuration says; Delivered where an artifact decides."""
    active: Files = field(default_factory=dict)
    """The artifact that decides; empty: none."""
    candidate: Files = field(default_factory=dict)
    """The artifact in shadow; empty: none."""
    objects: tuple[Manifest, ...] = ()
    """Jobs and what they mount, in the order in which they are applied; after everything else."""
    keep: frozenset[Key] = frozenset()
    """Objects of ours that nothing intends and that must not be pruned, such as artifacts of past policies."""


@dataclass(frozen=True)
class Desired:
    """Everything that the objects of one service follow from."""

    service: BestEffortService
    namespace: str
    uid: str
    settings: OperatorSettings
    admin_token: str
    """Bearer token of the routers' admin port."""
    policy: PolicyPart
    profiles: Mapping[str, Manifest] = field(default_factory=dict)
    """ConfigMaps that models name as their profile, by name; one that is not there is absent."""
    missing: frozenset[Key] = frozenset()
    """Those of `references(service)` that are not there."""
    live: Mapping[Key, Manifest] = field(default_factory=dict)
    """Children as they are."""


@dataclass(frozen=True)
class Complaint:
    """Something that the service asks for and does not get, for the condition that says so."""

    condition: ConditionType
    reason: Reason
    message: str
    """With the mend."""


@dataclass(frozen=True)
class Wanted:
    """What to apply, in this order, and what stays although nothing of this pass intends it."""

    steps: tuple[Apply, ...]
    keep: frozenset[Key] = frozenset()
    """Not applied and not pruned: what serves goes on as it is."""
    keep_all: bool = False
    """Nothing at all may be pruned: what the service asks for could not be computed."""
    complaints: tuple[Complaint, ...] = ()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything that is intended, handing over of replicas left out."""
        return tuple(step.manifest for step in self.steps if step.field_manager == FIELD_MANAGER)
