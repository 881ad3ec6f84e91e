"""The DQN as one candidate of a training; torch is imported only when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bes_training.learning.ground import Ground
from bes_training.learning.settings import TrainingSettings
from bes_training.simulation.brain import Brain
from bes_training.simulation.simulate import paper_brain

Float = NDArray[np.float64]
LEAST_VALIDATIONS = 5


@dataclass(frozen=True)
class TrainedNetwork:
    """The paper's network as weights; ``curve`` holds (decisions, validation loss)."""

    seed: int
    tensors: Mapping[str, Float]
    feature_names: tuple[str, ...]
    decisions: int
    curve: tuple[tuple[int, float], ...]

    def brain(self, ground: Ground) -> Brain:
        """As the simulator runs it."""
        parts = [np.ascontiguousarray(tensor).ravel() for tensor in self.tensors.values()]
        return paper_brain(ground.catalogue, (parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]))


def train_network(
    ground: Ground,
    settings: TrainingSettings,
    seed: int,
    checkpoint: Path,
    on_progress: Callable[[int, float], None],
) -> TrainedNetwork:
    """Train one seed; goes on from ``checkpoint`` if it is there. ``on_progress``: decisions, best validation loss."""
    from bes_training.dqn.learner import Progress, feature_names, to_tensors, train_dqn  # noqa: PLC0415 - torch
    from bes_training.dqn.settings import DQNSettings  # noqa: PLC0415

    def told(progress: Progress) -> None:
        on_progress(progress.decisions, 1.0 - (progress.best or 0.0))

    usual = DQNSettings()
    share = settings.decisions / usual.decisions
    terms = DQNSettings(
        decisions=settings.decisions,
        seed=seed,
        validations=min(usual.validations, max(LEAST_VALIDATIONS, round(usual.validations * share))),
    )
    result = train_dqn(ground.scenario, terms, ground.base_rate, told, checkpoint)
    curve = tuple((decisions, 1.0 - performance) for decisions, performance in result.curve)
    return TrainedNetwork(seed, to_tensors(result), feature_names(ground.scenario), result.decisions, curve)
