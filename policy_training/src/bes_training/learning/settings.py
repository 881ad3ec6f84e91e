"""What a training is told."""

from dataclasses import dataclass
from typing import Literal

from bes_api.service import BestEffortService, Learner

DECISIONS_PER_DQN_DECISION = 32
"""Evolution simulates this many decisions for each that the DQN trains on: it samples none of them again."""
FEW = (r"Static\d+/LeastLoaded", r"DeadlineAware/LeastFinish", r"PricedGated/Bunched")
"""The rules of a shortened training, as patterns of their names: statics, and the kinds that measured best."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a policy is searched. ``decisions`` are the DQN's; evolution and every opponent get 32 times as many."""

    learner: Learner = Learner.AUTO
    decisions: int = 1_200_000
    seeds: tuple[int, ...] = (1,)
    opponents: Literal["all", "few"] = "all"
    traces: int = 160
    requests: int = 4_000
    validation_requests: int = 12_000
    threads: int = 2
    shortened: bool = False
    """Fewer decisions than the resource asks for; artifact and report say so."""

    @property
    def stage_identity(self) -> tuple[object, ...]:
        """Everything that decides what one stage finds; another number of seeds or another learner adds stages."""
        return (self.evolution_decisions, self.opponents, self.traces, self.requests, self.validation_requests)

    @property
    def evolution_decisions(self) -> int:
        """Simulated decisions of one seed of the evolution, and of each opponent's tuning."""
        return DECISIONS_PER_DQN_DECISION * self.decisions


def settings_of(service: BestEffortService, *, threads: int, decisions: int | None = None) -> TrainingSettings:
    """What the resource asks for; ``decisions`` shortens it."""
    source = service.spec.policy.source
    training = source.training if source is not None else None
    if training is None:
        return TrainingSettings(decisions=decisions or 1_200_000, threads=threads, shortened=decisions is not None)
    return TrainingSettings(
        learner=training.learner,
        decisions=decisions or training.decisions,
        seeds=tuple(range(1, training.seeds + 1)),
        threads=threads,
        shortened=decisions is not None and decisions < training.decisions,
    )
