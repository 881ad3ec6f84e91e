"""Conditions of a service, as kstatus reads them: their types, their reasons, and what all parts of a status share."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from bes_api.config_map import Digest as AnyDigest

LARGEST = 2**53 - 1
"""The API server compares bounds as floats: a larger one would wrap around."""
INSTANT_FORM = "%Y-%m-%dT%H:%M:%SZ"


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("an instant is written with its zone, for example 2026-01-31T12:00:00Z")
    return value.astimezone(UTC).replace(microsecond=0)


def _cut(length: int) -> BeforeValidator:
    """Longer text is cut rather than refused: a status that cannot be written says nothing at all."""
    return BeforeValidator(
        lambda value: value[: length - 3] + "..." if isinstance(value, str) and len(value) > length else value
    )


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(lambda at: at.strftime(INSTANT_FORM), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]
"""A point in time, to the second, UTC."""
Word = Annotated[str, _cut(256), Field(max_length=256)]
Text = Annotated[str, _cut(2048), Field(max_length=2048)]
Digest = Annotated[AnyDigest, Field(max_length=71)]
Generation = Annotated[int, Field(strict=True, ge=-1, le=LARGEST)]
Number = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]


class StatusPart(BaseModel):
    """Base of every object in the status: frozen, camelCase, unknown fields left out."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class ConditionType(StrEnum):
    """What a condition is about. Ready, Reconciling and Stalled are kstatus' own."""

    AVAILABLE = "Available"
    """A router and at least one engine serve."""
    READY = "Ready"
    """The whole desired state is there. Training, shadow and reduced quality do not disturb it."""
    RECONCILING = "Reconciling"
    """The operator is on its way to the desired state."""
    STALLED = "Stalled"
    """Nothing will change until somebody mends what the message says."""
    POLICY_READY = "PolicyReady"
    """What the resource asks to decide does decide."""
    LOAD_FIGURES = "LoadFigures"
    """Routers know how loaded the engines are."""
    QUALITY_REDUCED = "QualityReduced"
    """True where something makes answers worse than the resource allows, for example a model without engines."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition is what it is, in one word; the message says the rest and the mend."""

    # Available, Ready, Reconciling
    SERVING = "Serving"
    NO_ROUTER = "NoRouter"
    NO_ENGINE = "NoEngine"
    AS_DESIRED = "AsDesired"
    NEW_GENERATION = "NewGeneration"
    ROLLING_OUT = "RollingOut"
    WAITING = "Waiting"
    """For pods that are not ready yet."""
    API_UNAVAILABLE = "APIUnavailable"
    PAUSED = "Paused"
    # Stalled
    UNREADABLE = "Unreadable"
    """The stored resource is none of this version."""
    NAME_TAKEN = "NameTaken"
    """An object with a child's name belongs to somebody else."""
    DENIED = "Denied"
    """The API server refuses what the operator applies."""
    EMULATED_GPU_SHARED = "EmulatedGPUShared"
    """Pods cannot share an emulated GPU."""
    PROFILE_MISSING = "ProfileMissing"
    PROFILE_UNREADABLE = "ProfileUnreadable"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word, not a secret
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    PODS_CANNOT_START = "PodsCannotStart"
    """An image that cannot be pulled, a container that cannot be made, one that ends again and again."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """A rollout makes no progress."""
    NOT_STALLED = "NotStalled"
    # PolicyReady
    POLICY_ACTIVE = "PolicyActive"
    """The learned policy decides."""
    RULE_ASKED = "RuleAsked"
    """The resource asks for a rule, and it decides."""
    RULE_IS_ENOUGH = "RuleIsEnough"
    """The candidate is no better than the best tuned rule, which therefore decides."""
    QUEUED = "Queued"
    TRAINING = "Training"
    IN_SHADOW = "InShadow"
    DELIVERING = "Delivering"
    """Routers have not taken the policy yet."""
    AWAITING_PIN = "AwaitingPin"
    """Promotion is manual: the candidate waits until its digest stands in pinnedDigest."""
    TRAINING_FAILED = "TrainingFailed"
    ARTIFACT_REFUSED = "ArtifactRefused"
    ARTIFACT_LOST = "ArtifactLost"
    PIN_NOT_FOUND = "PinNotFound"
    CANDIDATE_LOST = "CandidateLost"
    """It lost against the rule, or failed in shadow."""
    FALLBACK = "Fallback"
    """A router decides by the fallback rule."""
    # LoadFigures
    FIGURES_FRESH = "FiguresFresh"
    FIGURES_OLD = "FiguresOld"
    FIGURES_ABSENT = "FiguresAbsent"
    ORIGIN_NOT_ALLOWED = "OriginNotAllowed"
    """The operator's allow-list does not name this Prometheus."""
    ROUTERS_UNREACHABLE = "RoutersUnreachable"
    """No router has said anything lately."""
    # QualityReduced
    FULL_QUALITY = "FullQuality"
    MODEL_DOWN = "ModelDown"


class Condition(StatusPart):
    """One observation, as in meta/v1."""

    type: Annotated[str, Field(max_length=316)]
    """What it is about."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Generation = 0
    """The generation of the spec that it is of."""
    last_transition_time: Instant
    """When ``status`` last changed."""
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=256)]
    """Why, in one word."""
    message: Text = ""
    """Why, in a sentence, and the mend where something is wrong."""
