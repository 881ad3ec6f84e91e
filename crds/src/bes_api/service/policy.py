"""What decides: the policy's type, where a learned one comes from, and when it may take over."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from bes_api.config_map import Digest
from bes_api.quantities import DecimalString, DottedName, Duration, ObjectName
from bes_api.service.part import Decisions, Part, Revision

DEFAULT_MARGIN = Decimal("0.01")
DEFAULT_SHADOW = timedelta(minutes=5)
ArtifactDigest = Annotated[Digest, Field(max_length=71)]


class RuleType(StrEnum):
    """Policies that are rules: they need no training and can stand in for a learned one."""

    PRICED = "Priced"
    THRESHOLD = "Threshold"
    DEADLINE_AWARE = "DeadlineAware"
    STATIC = "Static"


class PolicyType(StrEnum):
    """Every policy that may decide."""

    LEARNED = "Learned"
    PRICED = "Priced"
    THRESHOLD = "Threshold"
    DEADLINE_AWARE = "DeadlineAware"
    STATIC = "Static"


class Learner(StrEnum):
    """How a policy is found; Auto trains by both and keeps what validates best."""

    AUTO = "Auto"
    EVOLUTION = "Evolution"
    DQN = "DQN"


class PromotionMode(StrEnum):
    """Who decides that a candidate takes over."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class StaticSettings(Part):
    """Always this model."""

    model: DottedName
    """One of models."""


class Fallback(Part):
    """The rule that decides while there is no valid policy."""

    type: RuleType = RuleType.DEADLINE_AWARE
    """The rule."""
    static: StaticSettings | None = None
    """Settings of type Static."""


class WorkloadSource(Part):
    """Traffic to train on."""

    preset: Literal["RandomWalk"] = "RandomWalk"
    """A family of workloads that comes with the release."""


class Training(Part):
    """How a policy is trained; a new revision asks for a new training of the same scenario."""

    learner: Learner = Learner.AUTO
    """How it is found."""
    decisions: Decisions = 1_200_000
    """Decisions that each seed of the DQN trains on; searches (rules, scorers) simulate 32 for each."""
    seeds: Annotated[int, Field(strict=True, ge=1, le=16)] = 3
    """Trainings from different beginnings, of which the best is kept."""
    revision: Revision = 1
    """Raise it to train the same scenario again."""
    workload: WorkloadSource = WorkloadSource()
    """Traffic to train on."""


class ImportedPolicy(Part):
    """An artifact that was trained elsewhere. It goes through the same gate and shadow."""

    config_map_name: ObjectName
    """The ConfigMap beside the service that holds it."""
    digest: ArtifactDigest
    """Digest of its data; another one is refused."""


class PolicySource(Part):
    """Where a learned policy comes from: exactly one member."""

    training: Training | None = None
    """A Job trains it in a simulation of this service."""
    imported: ImportedPolicy | None = None
    """It was trained elsewhere."""


class Promotion(Part):
    """When a candidate may decide."""

    mode: PromotionMode = PromotionMode.AUTOMATIC
    """Manual: it stays in shadow until its digest stands in pinnedDigest."""
    margin: DecimalString = DEFAULT_MARGIN
    """Performance that a candidate may lie below the best rule, as a share of peak."""
    shadow: Duration = DEFAULT_SHADOW
    """How long it decides in shadow, and at least 1,000 decisions where there is traffic."""


class Policy(Part):
    """What decides."""

    type: PolicyType = PolicyType.LEARNED
    """The policy; a learned one has a source."""
    static: StaticSettings | None = None
    """Settings of type Static."""
    fallback: Fallback = Fallback()
    """The rule that decides while there is no valid policy."""
    source: PolicySource = PolicySource(training=Training())
    """Where a learned policy comes from."""
    promotion: Promotion = Promotion()
    """When a candidate may decide."""
    history_limit: Annotated[int, Field(strict=True, ge=0, le=32)] = 3
    """Artifacts of the past that are kept, so that pinnedDigest can bring them back."""
    pinned_digest: ArtifactDigest | None = None
    """Holds one version of the policy, by its digest; absent: unpinned."""
