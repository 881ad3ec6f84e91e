"""One seed of the evolution: the base rule, linear weights on it, then the hidden layer; the best on validation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates
from bes_training.evolution.search import Found, SearchSettings, search
from bes_training.evolution.spaces import (
    Space,
    base_parameters,
    base_space,
    linear_space,
    scorer_space,
    split_weights,
)
from bes_training.learning.ground import Ground
from bes_training.learning.journal import Journal
from bes_training.learning.opponents import Opponents
from bes_training.learning.settings import TrainingSettings
from bes_training.learning.watch import Watch
from bes_training.simulation.brain import Brain
from bes_training.simulation.simulate import learned_brain

Float = NDArray[np.float64]
BASE_SHARE, LINEAR_SHARE, SCORER_SHARE = 0.15, 0.35, 0.5
"""Of the decisions of one seed."""


@dataclass(frozen=True)
class Scorer:
    """A scorer as weights. ``loss``: on validation, with the penalty for losing to the best rule of a workload."""

    seed: int
    base: Float
    linear: Float
    hidden: Float
    bias: Float
    out: Float
    loss: float
    decisions: int
    curve: tuple[tuple[int, float], ...]

    def tensors(self) -> dict[str, Float]:
        """As an artifact holds them."""
        hidden = self.hidden.reshape(len(self.out), candidates.WIDTH)
        return {"linear": self.linear, "hidden": hidden, "bias": self.bias, "out": self.out}

    def brain(self, ground: Ground) -> Brain:
        """As the simulator runs it."""
        return learned_brain(ground.catalogue, self.base, self.linear, self.hidden, self.bias, self.out)


def evolve(
    ground: Ground, rivals: Opponents, settings: TrainingSettings, seed: int, journal: Journal, watch: Watch
) -> Scorer:
    """The scorer that one seed finds. Stages that the journal knows are taken from there."""
    total = settings.evolution_decisions
    runner = _Runner(ground, rivals, seed, journal, watch)
    based = runner.run(base_space(ground.catalogue), SearchSettings(int(BASE_SHARE * total), seed))
    base = base_parameters(based.vector)
    lined = runner.run(linear_space(ground.catalogue, base), SearchSettings(int(LINEAR_SHARE * total), seed))
    space = scorer_space(ground.catalogue, base, lined.vector, np.random.default_rng(seed))
    terms = SearchSettings(int(SCORER_SHARE * total), seed, population=24, sigma=0.3, traces_per_generation=16)
    scored = runner.run(space, terms)
    linear, hidden, bias, out = split_weights(scored.vector)
    spent, curve = 0, []
    for stage in (based, lined, scored):
        curve += [(spent + decisions, loss) for decisions, loss in stage.curve]
        spent += stage.decisions
    return Scorer(seed, base, linear, hidden, bias, out, scored.validation_loss, spent, tuple(curve))


@dataclass(frozen=True)
class _Runner:
    ground: Ground
    rivals: Opponents
    seed: int
    journal: Journal
    watch: Watch

    def run(self, space: Space, settings: SearchSettings) -> Found:
        stage = f"seed {self.seed}: {space.name.lower()}"
        done = self.journal.found(stage)
        if done is not None:
            self.watch.skip(stage, settings.decisions)
            return done
        ground = self.ground
        with self.journal.timed(stage), self.watch.stage(stage, settings.decisions) as report:
            found = search(space, ground.training, ground.validation, settings, self.rivals.reference, report)
        self.journal.keep(stage, found)
        return found
