"""What serves a model: the engine's type, image, weights and pods, for the whole service or for one model."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from bes_api.quantities import DataKey, ImageReference, ObjectName, Quantity
from bes_api.service.part import ATOMIC, BY_NAME, ObjectReference, Part
from bes_api.service.pod import EnginePod


class EngineType(StrEnum):
    """The program that serves a model."""

    VLLM = "VLLM"
    TEXT_GENERATION_INFERENCE = "TextGenerationInference"
    EMULATED = "Emulated"


class CacheClaim(Part):
    """A PersistentVolumeClaim beside the service."""

    claim_name: ObjectName
    """Its name; engines on several nodes need one that many may mount."""


class CacheDirectory(Part):
    """A folder that lives as long as the pod: weights are fetched anew by every pod."""

    size_limit: Quantity | None = None
    """Its largest size; absent: as the node allows."""


class ModelCache(Part):
    """Where downloaded weights are kept: exactly one member."""

    persistent_volume_claim: CacheClaim | None = None
    """A volume that outlives pods."""
    empty_dir: CacheDirectory | None = None
    """A folder of the pod."""


class SecretReference(Part):
    """A value under a key of a Secret beside the service."""

    name: ObjectName
    """Name of the Secret."""
    key: DataKey = "token"
    """Key of its data."""


class Engine(Part):
    """The engine of every model, or of one; `resolved_engine` says how the second overrides the first."""

    type: EngineType | None = None
    """The program that serves; a model without one has the service's."""
    image: ImageReference | None = None
    """Absent: the release that the engine's file in bes_api names."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """Absent: Kubernetes' own choice by the image's tag."""
    image_pull_secrets: (
        Annotated[tuple[ObjectReference, ...], Field(max_length=8, json_schema_extra=BY_NAME)] | None
    ) = None
    """Secrets beside the service with which the image is pulled."""
    args: (
        Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=64, json_schema_extra=ATOMIC)]
        | None
    ) = None
    """Arguments after those that follow from the resource, for example of tensor parallelism."""
    model_cache: ModelCache | None = None
    """Where downloaded weights are kept; absent: a folder of the pod."""
    hub_token_secret_ref: SecretReference | None = None
    """The model hub's token, for gated models."""
    pod: EnginePod | None = None
    """Shape of its pods."""
