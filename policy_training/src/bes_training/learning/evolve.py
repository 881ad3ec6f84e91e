"""One seed of the evolution: the base rule, linear weights on it, then the hidden layer; the best on validation.

What is kept of all seeds then learns to guess: its weights for a view that old figures leave to guesswork.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates
from bes_training.evolution.search import Found, SearchSettings, search
from bes_training.evolution.spaces import (
    Space,
    alike,
    base_parameters,
    base_space,
    guessed_space,
    guessed_weights,
    linear_space,
    scorer_space,
    split_weights,
)
from bes_training.evolution.traces import Field
from bes_training.learning.ground import Ground, prepare_guessing
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
    """A scorer as weights; base, linear and out hold two rows: where the load is known, where it is guessed.

    ``loss``: on validation, with the penalty for losing to the best rule of a workload.
    """

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
        hidden = self.hidden.reshape(len(self.bias), candidates.WIDTH)
        return {"linear": self.linear, "hidden": hidden, "bias": self.bias, "out": self.out}

    def brain(self, ground: Ground) -> Brain:
        """As the simulator runs it."""
        return learned_brain(ground.catalogue, self.base, self.linear, self.hidden, self.bias, self.out)


@dataclass(frozen=True)
class Yardstick:
    """What a search is measured by: traces, and the best rule's loss on each of them."""

    training: Field
    validation: Field
    reference: tuple[Float, Float]


def known(ground: Ground, rivals: Opponents) -> Yardstick:
    """Where the load is known. Plays every rule on all training traces."""
    return Yardstick(ground.training, ground.validation, (rivals.best_on(ground.training), rivals.best_on_validation))


def guessed(ground: Ground, rivals: Opponents, settings: TrainingSettings) -> Yardstick:
    """Where the load must be guessed. Plays every rule on all of its traces."""
    training, validation = prepare_guessing(ground, settings)
    return Yardstick(training, validation, (rivals.best_on(training), rivals.best_on(validation)))


def evolve(
    ground: Ground,
    yardstick: Callable[[], Yardstick],
    settings: TrainingSettings,
    seed: int,
    journal: Journal,
    watch: Watch,
) -> Scorer:
    """The scorer that one seed finds. Stages that the journal knows are taken from there, without ``yardstick``."""
    total = settings.evolution_decisions
    runner = _Runner(yardstick, seed, journal, watch)
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
    return Scorer(
        seed, alike(base), alike(linear), hidden, bias, alike(out), scored.validation_loss, spent, tuple(curve)
    )


def learn_to_guess(
    scorer: Scorer, ground: Ground, rivals: Opponents, settings: TrainingSettings, journal: Journal, watch: Watch
) -> Scorer:
    """The same scorer with weights for a guessed load, the best of all seeds; a known load is decided as before."""
    yardstick = cache(lambda: guessed(ground, rivals, settings))
    space = guessed_space(ground.catalogue, scorer.base[0], scorer.linear[0], scorer.hidden, scorer.bias, scorer.out[0])
    found = []
    for seed in settings.seeds:
        runner = _Runner(yardstick, seed, journal, watch)
        found.append(runner.run(space, SearchSettings(settings.evolution_decisions, seed, traces_per_generation=12)))
    best = min(found, key=lambda each: each.validation_loss)
    base, linear, out = guessed_weights(best.vector)
    return replace(
        scorer,
        base=np.stack([scorer.base[0], base]),
        linear=np.stack([scorer.linear[0], linear]),
        out=np.stack([scorer.out[0], out]),
        decisions=scorer.decisions + best.decisions,
    )


@dataclass(frozen=True)
class _Runner:
    yardstick: Callable[[], Yardstick]
    seed: int
    journal: Journal
    watch: Watch

    def run(self, space: Space, settings: SearchSettings) -> Found:
        stage = f"seed {self.seed}: {space.name.lower()}"
        done = self.journal.found(stage)
        if done is not None:
            self.watch.skip(stage, settings.decisions)
            return done
        by = self.yardstick()
        with self.journal.timed(stage), self.watch.stage(stage, settings.decisions) as report:
            found = search(space, by.training, by.validation, settings, by.reference, report)
        self.journal.keep(stage, found)
        return found
