"""The passport of an artifact: what must be known of a set of weights before anything routes by it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bes_api.config_map import Digest
from bes_api.handover import dump_document, load_document
from bes_api.router_config import Parameters, Placement
from bes_api.scenario import Frozen, NonNegativeFloat

Finite = Annotated[float, Field(allow_inf_nan=False)]


class TunedRule(Frozen):
    """A rule as the same search tuned it for the same scenario."""

    placement: Placement = Placement.LEAST_LOADED
    parameters: Parameters = ()


class TrainingSummary(Frozen):
    """How the weights were found."""

    learner: Literal["Evolution", "DQN"]
    decisions: Annotated[int, Field(ge=0)]
    """Simulated decisions spent, validation left out."""
    seconds: NonNegativeFloat
    seed: int
    """The seed that was kept."""
    validation_performance: Finite | None = None
    shortened: bool = False
    """Trained with fewer decisions than the resource asks for (a demonstration)."""


class Passport(Frozen):
    """See the module. ``feature_offset`` and ``feature_scale`` belong to ``feature_names``, in order."""

    version: Literal[1] = 1
    kind: Literal["Learned", "Paper"]
    layout: Literal["candidate/2", "paper/1"]
    feature_names: tuple[str, ...] = Field(min_length=1)
    feature_offset: tuple[Finite, ...]
    feature_scale: tuple[Finite, ...]
    models: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    scenario_hash: Digest
    seeds: tuple[int, ...] = Field(min_length=1)
    """Every seed that was trained; the kept one is in ``training``."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Packages that took part, for example ``{"numba": "0.61.2"}``."""
    weights_sha256: Digest
    base_parameters: Parameters = ()
    """Parameters of the rule below the network; empty for the paper's."""
    guessed_base_parameters: Parameters = ()
    """The same where the load is guessed, because figures are old and other routers send too."""
    tuned_rules: dict[str, TunedRule] = Field(default_factory=dict)
    """The comparators, tuned with as many decisions: name of the rule -> what the search found."""
    training: TrainingSummary

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        expected = {"Learned": "candidate/2", "Paper": "paper/1"}[self.kind]
        if self.layout != expected:
            raise ValueError(f"kind {self.kind} has layout {expected}, not {self.layout}")
        if not len(self.feature_names) == len(self.feature_offset) == len(self.feature_scale):
            raise ValueError("feature_names, feature_offset and feature_scale differ in length")
        if any(scale == 0 for scale in self.feature_scale):
            raise ValueError("feature_scale holds a 0, which would divide by zero")
        for name, values in (("models", self.models), ("tasks", self.tasks), ("feature_names", self.feature_names)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} holds a name twice")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read JSON or YAML. Raises ConfigurationError with file, field and expectation."""
        return load_document(cls, path)

    def write(self, path: Path) -> None:
        """Write JSON, which ``read`` understands."""
        dump_document(self, path)
