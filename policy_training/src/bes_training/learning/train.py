"""The whole of a training: opponents, every seed of the learners, the choice on validation, artifacts on disk."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bes_api.passport import Passport, TrainingSummary
from bes_api.scenario import Scenario
from bes_api.service import Learner
from bes_router.policy import candidates, paper
from bes_router.policy.artifact import write_artifact
from bes_router.policy.catalogue import catalogue_of
from bes_training.evolution.search import objective
from bes_training.learning.evolve import Scorer, evolve, known, learn_to_guess
from bes_training.learning.ground import Ground, prepare
from bes_training.learning.journal import Journal
from bes_training.learning.network import TrainedNetwork, train_network
from bes_training.learning.opponents import Opponents, rivals_of, tune_opponents
from bes_training.learning.settings import DECISIONS_PER_DQN_DECISION, TrainingSettings
from bes_training.learning.watch import Watch

Float = NDArray[np.float64]
POLICY, NETWORK = "policy", "dqn"
UNSIGNED = "sha256:" + "0" * 64
PACKAGES = ("best-effort-serving", "numba", "numpy", "cma", "torch")


@dataclass(frozen=True)
class Candidate:
    """One seed of one learner as it validated. ``loss`` has the penalty, ``performance`` is the plain mean."""

    learner: str
    seed: int
    loss: float
    performance: float
    decisions: int
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trained:
    """What a training left in its folder. ``policy`` is what `Learned` means; ``network`` the plain DQN, if trained."""

    policy: Path
    network: Path | None
    comparator: str
    candidates: tuple[Candidate, ...]
    base_rate: float
    seconds: float
    shortened: bool


def identity_of(scenario: Scenario, settings: TrainingSettings) -> str:
    """Which training this is: a journal of another one is refused."""
    return sha256(f"{scenario.content_hash()} {settings.stage_identity!r}".encode()).hexdigest()


def stages(scenario: Scenario, settings: TrainingSettings) -> int:
    """Decisions of all stages together, as the progress bar counts them."""
    rules = len(rivals_of(catalogue_of(scenario), settings))
    learners = 2 if settings.learner is Learner.AUTO else 1
    seeds = learners + (settings.learner is not Learner.DQN)  # every seed of the scorer also learns to guess
    return settings.evolution_decisions * (rules + seeds * len(settings.seeds))


def train(
    scenario: Scenario,
    settings: TrainingSettings,
    folder: Path,
    watch: Watch,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train into ``folder``: `policy/`, with a DQN also `dqn/`. A folder with the same training's journal goes on.

    Raises JournalError, NoBaseRateError; KeyboardInterrupt leaves a folder from which the same call resumes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, identity_of(scenario, settings), clock)
    ground = prepare(scenario, settings)
    watch.say(
        f"{settings.learner}, {settings.decisions:,} decisions of each seed; each search (rules, scorers) simulates "
        f"{DECISIONS_PER_DQN_DECISION} for each of them: {settings.evolution_decisions:,}, fewer where it converges"
    )
    watch.say(f"base rate {ground.base_rate:g}/s: what the largest model alone serves with 99 % in time")
    rivals = tune_opponents(ground, settings, journal, watch)
    watch.say(f"comparator: {rivals.comparator}, best of {len(rivals.rules)} rules on validation")
    session = _Session(ground, settings, rivals, folder, journal, watch)
    scorers = session.scorers()
    networks = session.networks()
    best_scorer = min(scorers, key=lambda each: each.loss, default=None)
    best_network = min(networks, key=session.loss_of_network, default=None)
    if best_network is not None:
        session.write_network(NETWORK, best_network)
    if best_scorer is not None and (best_network is None or best_scorer.loss <= session.loss_of_network(best_network)):
        session.write_scorer(learn_to_guess(best_scorer, ground, rivals, settings, journal, watch))
    elif best_network is not None:
        session.write_network(POLICY, best_network)
    return Trained(
        policy=folder / POLICY,
        network=folder / NETWORK if best_network is not None else None,
        comparator=rivals.comparator,
        candidates=tuple(session.candidates),
        base_rate=ground.base_rate,
        seconds=journal.seconds,
        shortened=settings.shortened,
    )


@dataclass
class _Session:
    ground: Ground
    settings: TrainingSettings
    rivals: Opponents
    folder: Path
    journal: Journal
    watch: Watch
    candidates: list[Candidate] = field(default_factory=list)

    def scorers(self) -> list[Scorer]:
        """Every seed of the evolution."""
        if self.settings.learner is Learner.DQN:
            return []
        found = []
        yardstick = cache(lambda: known(self.ground, self.rivals))
        for seed in self.settings.seeds:
            scorer = evolve(self.ground, yardstick, self.settings, seed, self.journal, self.watch)
            losses = self._losses(scorer.brain(self.ground))
            self._note("Evolution", seed, losses, scorer.decisions, scorer.curve)
            found.append(scorer)
        return found

    def networks(self) -> list[TrainedNetwork]:
        """Every seed of the DQN."""
        if self.settings.learner is Learner.EVOLUTION:
            return []
        found = []
        for seed in self.settings.seeds:
            stage = f"seed {seed}: DQN"
            checkpoint = self.folder / f"dqn-{seed}.checkpoint"
            decisions = self.settings.decisions
            with self.journal.timed(stage), self.watch.stage(stage, decisions, DECISIONS_PER_DQN_DECISION) as report:
                network = train_network(self.ground, self.settings, seed, checkpoint, report)
            self._note("DQN", seed, self._losses(network.brain(self.ground)), network.decisions, network.curve)
            found.append(network)
        return found

    def loss_of_network(self, network: TrainedNetwork) -> float:
        """Validation loss with the penalty, as the scorers are judged."""
        return float(objective(self._losses(network.brain(self.ground)), self.rivals.best_on_validation)[0])

    def write_scorer(self, scorer: Scorer) -> None:
        """The chosen policy, a scorer."""
        summary = self._summary("Evolution", scorer.seed, scorer.decisions)
        passport = self._passport("Learned", candidates.LAYOUT, candidates.FEATURES, summary, scorer.base.tolist())
        write_artifact(self.folder / POLICY, passport, scorer.tensors())

    def write_network(self, name: str, network: TrainedNetwork) -> None:
        """A plain DQN."""
        summary = self._summary("DQN", network.seed, network.decisions)
        passport = self._passport("Paper", paper.LAYOUT, network.feature_names, summary)
        single = {each: tensor.astype(np.float32) for each, tensor in network.tensors.items()}  # as torch trained them
        write_artifact(self.folder / name, passport, single)

    def _losses(self, brain: object) -> Float:
        return self.ground.validation.losses([brain], range(len(self.ground.validation.traces)))  # type: ignore[list-item]  # a Brain

    def _note(
        self, learner: str, seed: int, losses: Float, decisions: int, curve: tuple[tuple[int, float], ...]
    ) -> None:
        penalised = float(objective(losses, self.rivals.best_on_validation)[0])
        self.candidates.append(Candidate(learner, seed, penalised, 1.0 - float(losses.mean()), decisions, curve))
        gain = float(self.rivals.validation.mean(axis=1).min() - losses.mean())
        self.watch.say(
            f"{learner} seed {seed}: {1.0 - float(losses.mean()):.4f} of peak on validation, "
            f"{100 * gain:+.2f} points against {self.rivals.comparator}"
        )

    def _summary(self, learner: Literal["Evolution", "DQN"], seed: int, decisions: int) -> TrainingSummary:
        kept = next(each for each in self.candidates if each.learner == learner and each.seed == seed)
        return TrainingSummary(
            learner=learner,
            decisions=decisions,
            seconds=round(self.journal.seconds, 1),
            seed=seed,
            validation_performance=kept.performance,
            shortened=self.settings.shortened,
        )

    def _passport(
        self,
        kind: Literal["Learned", "Paper"],
        layout: Literal["candidate/2", "paper/1"],
        features: tuple[str, ...],
        summary: TrainingSummary,
        base: Sequence[Sequence[float]] = ((), ()),
    ) -> Passport:
        scenario = self.ground.scenario
        return Passport(
            kind=kind,
            layout=layout,
            feature_names=features,
            feature_offset=(0.0,) * len(features),
            feature_scale=(1.0,) * len(features),
            models=tuple(model.name for model in scenario.models),
            tasks=tuple(task.name for task in scenario.tasks),
            scenario_hash=scenario.content_hash(),
            seeds=self.settings.seeds,
            versions=_versions(),
            weights_sha256=UNSIGNED,
            base_parameters=tuple(base[0]),
            guessed_base_parameters=tuple(base[1]),
            tuned_rules=self.rivals.rules,
            training=summary,
        )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # torch, where only the evolution ran
            continue
    return found
