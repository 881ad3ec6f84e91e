"""What the operator says of a service: the resource's `status`, its condition types and their reasons.

A reader ignores fields that it does not know: operators of two releases read each other's status during an upgrade.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from bes_api.config_map import Digest as AnyDigest
from bes_api.quantities import DecimalString

INSTANT_FORM = "%Y-%m-%dT%H:%M:%SZ"
SHARE_STEP = Decimal("0.01")


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
Generation = Annotated[int, Field(strict=True, ge=-1, le=2**63 - 1)]
Number = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]


class StatusPart(BaseModel):
    """Base of every object in the status: frozen, camelCase, unknown fields left out."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
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
    status: ConditionStatus
    observed_generation: Generation = 0
    last_transition_time: Instant
    """When ``status`` last changed."""
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=256)]
    message: Text = ""


class ModelStatus(StatusPart):
    """One model's engines."""

    name: Word
    deployment_name: Word
    ready: Number
    """Engines that may be asked."""
    desired: Number


class PolicyVersion(StatusPart):
    """What decides or may decide, and what it was judged by. Scores are shares of peak performance."""

    name: Word
    """As the header field x-bes-policy says it: Learned, Paper, or a rule."""
    digest: Digest | None = None
    """Of the artifact; absent: a rule decides."""
    scenario: Digest | None = None
    """Content hash of the scenario for which it was trained."""
    score: DecimalString | None = None
    """Mean on the test workloads."""
    rule: Word | None = None
    """The best tuned rule, against which it was judged."""
    rule_score: DecimalString | None = None
    gain: DecimalString | None = None
    """Mean of (policy - rule), paired by workload."""
    gain_low: DecimalString | None = None
    """Lower end of its 95 % interval."""
    since: Instant


class CandidateStatus(PolicyVersion):
    """An artifact in shadow: it decides some requests again and routes none."""

    decisions: Number = 0
    """In shadow, over all routers."""
    message: Text | None = None
    """What it waits for."""


class RetiredPolicy(StatusPart):
    """A policy that served, or was refused; pinnedDigest can bring back one whose artifact is kept."""

    name: Word
    digest: Digest
    score: DecimalString | None = None
    since: Instant
    until: Instant
    reason: Word
    message: Text | None = None


class TrainingState(StrEnum):
    """Where a training stands."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TrainingStatus(StatusPart):
    """The training of the scenario that the resource states now."""

    scenario: Digest
    revision: Number = 1
    state: TrainingState
    position: Number | None = None
    """Trainings before it in the operator's queue, itself included; only while Queued."""
    job: Word | None = None
    attempts: Number = 0
    since: Instant
    """When it came into this state."""
    reason: Word | None = None
    message: Text | None = None


class PolicyStatus(StatusPart):
    """The way of a policy."""

    active: PolicyVersion | None = None
    candidate: CandidateStatus | None = None
    training: TrainingStatus | None = None
    history: tuple[RetiredPolicy, ...] = Field(default=(), max_length=32)
    """Newest first."""


class ServedStatus(StatusPart):
    """What routers delivered, in steps of 0.01; written at most every few minutes."""

    performance: DecimalString | None = None
    """Reward as a share of peak reward."""
    in_time: DecimalString | None = None
    """Requests answered in time, as a share."""
    since: Instant | None = None
    """Begin of the time that the figures are of."""
    until: Instant | None = None
    """End of that time."""


class ServiceStatus(StatusPart):
    """Status of a service."""

    observed_generation: Generation = -1
    """The generation of the spec that this status is of."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=16)
    endpoint: Word | None = None
    """Where clients send requests, inside the cluster."""
    models: tuple[ModelStatus, ...] = Field(default=(), max_length=64)
    policy: PolicyStatus | None = None
    served: ServedStatus | None = None

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


def read_status(stored: Mapping[str, Any]) -> ServiceStatus:
    """The status of a stored object; an absent or unreadable one is the empty status, to be written anew."""
    try:
        return ServiceStatus.model_validate(stored.get("status") or {}, by_alias=True, by_name=False)
    except ValidationError:
        return ServiceStatus()


def write_status(status: ServiceStatus) -> dict[str, Any]:
    """The status as the API server takes it: what is absent stays out."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
