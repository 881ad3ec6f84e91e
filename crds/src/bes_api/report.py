"""The evaluation report: how policies did on each workload of one scenario, and how they compare. Figures only."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bes_api.handover import dump_document, load_document
from bes_api.scenario import Fraction, Frozen, PositiveFloat

Finite = Annotated[float, Field(allow_inf_nan=False)]


class TaskOutcome(Frozen):
    """One task's part of a run."""

    requests: Annotated[int, Field(ge=0)]
    performance: Finite
    in_time: Fraction


class WorkloadOutcome(Frozen):
    """One policy on one workload with one seed. Performance is reward as a share of peak reward."""

    workload: str
    policy: str
    seed: int
    requests: Annotated[int, Field(ge=0)]
    performance: Finite
    in_time: Fraction
    windows_above_96: Fraction
    """Share of time windows with at least 96 % of peak."""
    windows_above_98: Fraction
    per_task: dict[str, TaskOutcome] = Field(default_factory=dict)
    differs: Fraction | None = None
    """Share of decisions that differ from the comparator's; None for the comparator itself."""


class Comparison(Frozen):
    """``policy`` less ``against``, paired over ``n`` workloads, in shares of peak."""

    policy: str
    against: str
    mean: Finite
    low: Finite
    """Ends of the 95 % interval of the mean."""
    high: Finite
    worst: Finite
    worst_workload: str
    n: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError("low <= mean <= high does not hold")
        return self


class EvaluationReport(Frozen):
    """See the module."""

    version: Literal[1] = 1
    scenario_hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    base_rate: PositiveFloat
    """Requests/s that the largest model alone serves with 99 % in time: what load multiples refer to."""
    window_seconds: PositiveFloat = 1.0
    outcomes: tuple[WorkloadOutcome, ...]
    comparisons: tuple[Comparison, ...] = ()
    comparator: str | None = None
    """The rule against which the gate judges: the best of them on the validation workloads."""
    validation: tuple[WorkloadOutcome, ...] = ()
    """Every rule on the validation workloads, so that a reader can choose the comparator again."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read JSON or YAML. Raises ConfigurationError with file, field and expectation."""
        return load_document(cls, path)

    def write(self, path: Path) -> None:
        """Write JSON, which ``read`` understands."""
        dump_document(self, path)
