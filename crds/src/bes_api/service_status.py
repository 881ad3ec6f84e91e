"""What the operator says of a service: the resource's `status`.

A reader ignores fields that it does not know: operators of two releases read each other's status during an upgrade.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError

from bes_api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Digest,
    Generation,
    Instant,
    Number,
    Reason,
    StatusPart,
    Text,
    Word,
)
from bes_api.quantities import DecimalString
from bes_api.service.part import ATOMIC, BY_NAME, map_by

__all__ = [
    "CandidateStatus",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Digest",
    "Generation",
    "Instant",
    "ModelStatus",
    "Number",
    "PolicyStatus",
    "PolicyVersion",
    "Reason",
    "RetiredPolicy",
    "ServedStatus",
    "ServiceStatus",
    "StatusPart",
    "Text",
    "TrainingState",
    "TrainingStatus",
    "Word",
    "read_status",
    "write_status",
]


class ModelStatus(StatusPart):
    """One model's engines."""

    name: Word
    """Name of the model."""
    deployment_name: Word
    """Name of its Deployment."""
    ready: Number
    """Engines that may be asked."""
    desired: Number
    """Engines that there shall be."""


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
    """The rule's mean on the test workloads."""
    gain: DecimalString | None = None
    """Mean of (policy - rule), paired by workload."""
    gain_low: DecimalString | None = None
    """Lower end of its 95 % interval."""
    since: Instant
    """When it took this part."""


class CandidateStatus(PolicyVersion):
    """An artifact in shadow: it decides some requests again and routes none."""

    decisions: Number = 0
    """In shadow, over all routers."""
    message: Text | None = None
    """What it waits for."""


class RetiredPolicy(StatusPart):
    """A policy that served, or was refused; pinnedDigest can bring back one whose artifact is kept."""

    name: Word
    """As the header field x-bes-policy says it."""
    digest: Digest
    """Of its artifact; pinnedDigest takes it."""
    score: DecimalString | None = None
    """Mean on the test workloads."""
    since: Instant
    """When it began to serve, or was found."""
    until: Instant
    """When it ceased to."""
    reason: Word
    """Why, in one word."""
    message: Text | None = None
    """Why, in a sentence."""


class TrainingState(StrEnum):
    """Where a training stands."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TrainingStatus(StatusPart):
    """The training of the scenario that the resource states now."""

    scenario: Digest
    """Content hash of the scenario."""
    revision: Number = 1
    """The resource's training.revision."""
    state: TrainingState
    """Where it stands."""
    position: Number | None = None
    """Trainings before it in the operator's queue, itself included; only while Queued."""
    job: Word | None = None
    """Name of its Job."""
    attempts: Number = 0
    """Pods that have been started for it."""
    since: Instant
    """When it came into this state."""
    reason: Word | None = None
    """Why, in one word."""
    message: Text | None = None
    """Why, in a sentence, and the mend."""


class PolicyStatus(StatusPart):
    """The way of a policy."""

    active: PolicyVersion | None = None
    """What decides."""
    candidate: CandidateStatus | None = None
    """What may decide next."""
    training: TrainingStatus | None = None
    """The training of the scenario that the resource states now."""
    history: tuple[RetiredPolicy, ...] = Field(default=(), max_length=32, json_schema_extra=ATOMIC)
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
    conditions: tuple[Condition, ...] = Field(default=(), max_length=16, json_schema_extra=map_by("type"))
    """Available, Ready, Reconciling, Stalled, PolicyReady, LoadFigures, QualityReduced."""
    endpoint: Word | None = None
    """Where clients send requests, inside the cluster."""
    models: tuple[ModelStatus, ...] = Field(default=(), max_length=64, json_schema_extra=BY_NAME)
    """Engines of each model."""
    policy: PolicyStatus | None = None
    """The way of the policy."""
    served: ServedStatus | None = None
    """What routers delivered."""

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
