"""The paper's training: double DQN with hard deadlines, then fine-tuned for the service's own.

Per round: one decision in every environment by one product of matrices (epsilon-greedy over eligible models), then as
many updates on drawn n-step transitions as the stated samples per decision. Now and then the network plays the
validation workloads, and the best of these networks is the result.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import Scenario
from bes_router.policy import paper
from bes_router.policy.artifact import PAPER_TENSORS
from bes_router.policy.layout import Catalogue
from bes_training.dqn.checkpoint import (
    Checkpoint,
    fill,
    interrupt_held,
    read_checkpoint,
    write_checkpoint,
)
from bes_training.dqn.episodes import MAX_DEATHS, Episodes, hardened
from bes_training.dqn.network import Layers, Learner, greedy, layers_of, new_layers, torch_threads
from bes_training.dqn.settings import DQNSettings
from bes_training.dqn.validation import Validation, validation_workloads
from bes_training.dqn.vector import Replay, Simulations
from bes_training.simulation.brain import Brain
from bes_training.simulation.simulate import compiled_catalogue, paper_brain
from bes_training.workloads.training import MAX_ROUTERS

LEAST_RATE = 0.05
"""The learning rate at the end of a phase, relative to its start."""
FINE_RATE = 0.5
"""The learning rate at the start of the fine-tuning, relative to the first phase's."""
ROUNDS_PER_PROGRESS = 50


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands. Performances are None until the first validation."""

    decisions: int
    total: int
    phase: str
    performance: float | None
    best: float | None
    seconds: float


@dataclass(frozen=True)
class DQNResult:
    """The network that validated best; ``curve`` holds (decisions, validation performance)."""

    layers: Layers
    curve: tuple[tuple[int, float], ...]
    decisions: int
    seconds: float

    @property
    def performance(self) -> float:
        """On the validation workloads: mean over them of reward as a share of peak."""
        return max(performance for _, performance in self.curve)


def train_dqn(
    scenario: Scenario,
    settings: DQNSettings,
    base_rate: float,
    on_progress: Callable[[Progress], None],
    checkpoint: Path | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> DQNResult:
    """Train for ``scenario``, whose base rate (requests/s) is ``base_rate``.

    With ``checkpoint`` the training goes on from that file if it exists, writes it now and then, and on Ctrl-C or
    SIGTERM before KeyboardInterrupt is raised. Raises CheckpointError for a file of another training. Same arguments,
    machine and number of threads: same weights, interrupted or not.
    """
    with torch_threads(settings.threads):
        training = Training(scenario, settings, base_rate, clock)
        if checkpoint is not None and checkpoint.exists():
            training.restore(read_checkpoint(checkpoint, training.identity))
        with interrupt_held() as interrupted:
            while not training.over:
                training.round()
                if training.validation_due:
                    training.validate()
                    on_progress(training.progress())
                elif training.rounds % ROUNDS_PER_PROGRESS == 0:
                    on_progress(training.progress())
                if checkpoint is not None and (interrupted or training.checkpoint_due):
                    write_checkpoint(checkpoint, training.checkpoint())
                if interrupted:
                    raise interrupted[0]
        return training.result()


def to_tensors(result: DQNResult) -> dict[str, NDArray[np.float64]]:
    """The weights under the names that an artifact has for them."""
    return dict(zip(PAPER_TENSORS, result.layers, strict=True))


def feature_names(scenario: Scenario) -> tuple[str, ...]:
    """Names of the observation's features, for the passport. Their scaling is part of the layout: offset 0, scale 1."""
    tasks = tuple(f"task:{task.name}" for task in scenario.tasks)
    models = tuple(f"in_flight:{model.name}" for model in scenario.models)
    return (*tasks, *models, "arrival_rate")


def brain_of(catalogue: Catalogue, layers: Layers) -> Brain:
    """The network as the simulator's brain; ``catalogue`` holds arrays."""
    one, two, three, four, five, six = (np.ascontiguousarray(each).ravel() for each in layers)
    return paper_brain(catalogue, (one, two, three, four, five, six))


class Training:
    """A training between two rounds: everything that a checkpoint holds."""

    def __init__(self, scenario: Scenario, settings: DQNSettings, base_rate: float, clock: Callable[[], float]) -> None:
        self._settings = settings
        self.identity = f"{scenario.content_hash()} base {base_rate!r} {asdict(settings)}"
        self._catalogue = compiled_catalogue(scenario.model_dump_json())
        self._rng = np.random.default_rng([settings.seed, 2401])
        width, models = paper.width_of(self._catalogue), len(self._catalogue.context)
        layers = new_layers(width, settings.hidden, models, self._rng)
        self._learner = Learner(layers, settings.learning_rate, settings.target_rate)
        self._episodes = Episodes(scenario, self._catalogue, base_rate, settings.episode_requests)
        self._simulations = Simulations(
            self._catalogue,
            scenario.max_in_flight,
            rows=settings.environments,
            requests=settings.episode_requests,
            routers=MAX_ROUTERS,
            deaths=MAX_DEATHS,
        )
        # A ring must hold an episode: its first request may be the last to end.
        length = max(settings.memory // settings.environments, settings.episode_requests + settings.steps + 2)
        self._replay = Replay(self._simulations, length, settings.batch, settings.steps, settings.gamma)
        workloads = validation_workloads(scenario, base_rate, settings.validation_requests)
        self._validation = Validation(self._catalogue, scenario.max_in_flight, workloads)
        self._best = layers
        self._curve: list[tuple[int, float]] = []
        self._decisions = 0
        self._samples_owed = 0.0
        self._checkpointed = 0
        self._fine = False
        self.rounds = 0
        self._clock = clock
        self._started = clock()
        self._restart()

    @property
    def over(self) -> bool:
        """Whether every decision was made."""
        return self._decisions >= self._settings.decisions

    @property
    def validation_due(self) -> bool:
        """Whether the next of the stated validations has come."""
        return self._decisions * self._settings.validations >= self._settings.decisions * (len(self._curve) + 1)

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was decided since the last one."""
        return self._decisions - self._checkpointed >= self._settings.checkpoint_decisions

    @property
    def _hard_decisions(self) -> float:
        return self._settings.hard_share * self._settings.decisions

    def round(self) -> None:
        """One decision in every environment, the updates that it pays for, new episodes where one ended."""
        if not self._fine and self._decisions >= self._hard_decisions:
            self._begin_fine_tuning()
        settings, batch = self._settings, self._simulations.batch
        models = greedy(self._learner.online, batch.observation, batch.allowed)
        explore = self._rng.random(len(models)) < settings.epsilon
        random = np.where(batch.allowed == 1, self._rng.random(batch.allowed.shape), -1.0).argmax(axis=1)
        awaiting = self._simulations.decide(self._replay.memory, np.where(explore, random, models))
        self._decisions += len(models)
        self._samples_owed += settings.samples_per_decision * len(models)
        if awaiting < len(models):
            for row in np.flatnonzero(~self._simulations.awaiting):
                self._begin_episode(int(row))
        self._update()
        self.rounds += 1

    def validate(self) -> None:
        """Play the validation workloads; keep the network if it is the best so far."""
        performance = self._validation.performance(self._learner.online)
        if not self._curve or performance > max(each for _, each in self._curve):
            self._best = layers_of(self._learner.online)
        self._curve.append((self._decisions, performance))

    def progress(self) -> Progress:
        """Where the training stands."""
        performances = [performance for _, performance in self._curve]
        return Progress(
            decisions=self._decisions,
            total=self._settings.decisions,
            phase="fine-tuning" if self._fine else "hard deadlines",
            performance=performances[-1] if performances else None,
            best=max(performances) if performances else None,
            seconds=self._clock() - self._started,
        )

    def result(self) -> DQNResult:
        """What was learned."""
        return DQNResult(self._best, tuple(self._curve), self._decisions, self._clock() - self._started)

    def checkpoint(self) -> Checkpoint:
        """Everything that the rest of the training depends on."""
        self._checkpointed = self._decisions
        facts: dict[str, Any] = {
            "decisions": self._decisions,
            "samples_owed": self._samples_owed,
            "rounds": self.rounds,
            "fine": self._fine,
            "curve": self._curve,
            "seconds": self._clock() - self._started,
            "random": self._rng.bit_generator.state,
        }
        arrays = [*self._simulations.arrays(), *self._replay.arrays(), *self._best, *self._learner.arrays()]
        return Checkpoint(self.identity, facts, arrays)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Become the training that ``checkpoint`` was made of."""
        facts, arrays = checkpoint.facts, list(checkpoint.arrays)
        for held in (self._simulations.arrays(), self._replay.arrays()):
            fill(held, arrays[: len(held)])
            del arrays[: len(held)]
        self._best = (arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5])
        self._learner.restore(arrays[6:])
        self._decisions = self._checkpointed = int(facts["decisions"])
        self._samples_owed = float(facts["samples_owed"])
        self.rounds = int(facts["rounds"])
        self._fine = bool(facts["fine"])
        self._curve = [(int(decisions), float(performance)) for decisions, performance in facts["curve"]]
        self._started = self._clock() - float(facts["seconds"])
        state: Mapping[str, Any] = facts["random"]
        self._rng.bit_generator.state = state

    def _begin_fine_tuning(self) -> None:
        """From the weights of the first phase, but from no outcome of it: what a late answer is worth changes."""
        self._fine = True
        self._learner.synchronise()
        self._restart()
        self._replay.forget()

    def _restart(self) -> None:
        """New episodes everywhere."""
        self._replay.memory.settled[:] = self._replay.memory.made
        for row in range(self._simulations.rows):
            self._begin_episode(row)

    def _begin_episode(self, row: int) -> None:
        catalogue = self._catalogue if self._fine else hardened(self._catalogue)
        waiting = False
        while not waiting:  # an episode without a single decision is possible where few requests arrive
            workload, circumstances = self._episodes.draw(self._rng)
            self._simulations.put(row, workload, circumstances, catalogue)
            self._simulations.begin(row)
            waiting = bool(self._simulations.awaiting[row])

    def _update(self) -> None:
        settings = self._settings
        if self._samples_owed < settings.batch or self._replay.ready() < min(settings.warmup, settings.decisions // 10):
            return
        self._learner.set_learning_rate(self._rate())
        for _ in range(min(4, int(self._samples_owed / settings.batch))):
            self._learner.update(self._replay.draw(self._rng.random(settings.batch)))
            self._samples_owed -= settings.batch

    def _rate(self) -> float:
        """Falls linearly within each phase."""
        begin, end = (self._hard_decisions, self._settings.decisions) if self._fine else (0.0, self._hard_decisions)
        done = min(1.0, (self._decisions - begin) / max(1.0, end - begin))
        start = self._settings.learning_rate * (FINE_RATE if self._fine else 1.0)
        return start * (1.0 + (LEAST_RATE - 1.0) * done)
