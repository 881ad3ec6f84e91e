"""The arrays of many simulations side by side: allocation, a new episode in a row, and the compiled calls on them."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import paper
from bes_router.policy.layout import Catalogue
from bes_training.dqn import environment, replay
from bes_training.simulation import kernel
from bes_training.simulation.circumstances import Circumstances, LoadFigures, Poll
from bes_training.simulation.compiled import compiled
from bes_training.simulation.simulate import new_simulation
from bes_training.workloads.workload import Workload

Array = NDArray[Any]
ENVIRONMENT = "bes_training.dqn.environment"
REPLAY = "bes_training.dqn.replay"


class Simulations:
    """``rows`` simulations of one catalogue with room for workloads of ``requests`` requests and ``routers`` routers.

    ``observation`` [rows, features] and ``allowed`` [rows, models] say what awaits a decision where ``awaiting`` holds.
    """

    def __init__(
        self, catalogue: Catalogue, max_in_flight: int, *, rows: int, requests: int, routers: int, deaths: int = 0
    ) -> None:
        self._catalogue = catalogue
        self._max_in_flight = max_in_flight
        self._requests = requests
        self._routers = routers
        self._deaths = deaths
        none = np.zeros(requests, np.int64)
        empty = Workload("empty/0", np.zeros(requests), none, none, none, none, 0.0)
        # Padding: a death that never comes (infinity).
        idle = Circumstances(LoadFigures.live(routers), ((np.inf, 0, True),) * deaths)
        model = new_simulation(catalogue, empty, max_in_flight, idle)
        self.batch = environment.Batch(
            simulations=_stacked(model, rows),
            count=np.zeros(rows, np.int64),
            slot=np.zeros(rows, np.int64),
            observation=np.zeros((rows, paper.width_of(catalogue)), np.float32),
            allowed=np.zeros((rows, len(catalogue.context)), np.int64),
        )
        self._compiled = compiled(ENVIRONMENT)

    @property
    def rows(self) -> int:
        """How many simulations."""
        return len(self.batch.slot)

    @property
    def awaiting(self) -> NDArray[np.bool_]:
        """[rows] where a request awaits its decision."""
        waiting: NDArray[np.bool_] = self.batch.slot < self.batch.count
        return waiting

    def put(
        self, row: int, workload: Workload, circumstances: Circumstances, catalogue: Catalogue | None = None
    ) -> None:
        """Begin ``workload`` in a row; ``catalogue`` may differ from the service's in its deadlines only.

        ``circumstances`` has load figures for at most the routers there is room for.
        """
        if len(workload) > self._requests or len(circumstances.deaths) > self._deaths:
            raise ValueError(f"row {row} has room for {self._requests} requests and {self._deaths} deaths")
        padded = _padded(circumstances, self._routers, self._deaths)
        one = new_simulation(catalogue or self._catalogue, workload, self._max_in_flight, padded)
        for target, source in zip(_arrays(self.batch.simulations), _arrays(one), strict=True):
            target[row][tuple(slice(0, size) for size in source.shape)] = source
        self.batch.count[row] = len(workload)
        self.batch.slot[row] = 0

    def begin(self, row: int) -> None:
        """Bring a row to its first decision."""
        self._compiled.begin(self.batch, row)

    def decide(self, memory: environment.Memory, models: Array) -> int:
        """Decide where something awaits, and remember it; returns how many rows await the next decision."""
        awaiting: int = self._compiled.decide_all(self.batch, memory, models)
        return awaiting

    def reward(self, row: int) -> tuple[float, float]:
        """Sum of rewards and of peak rewards of a finished row."""
        count = int(self.batch.count[row])
        simulations = self.batch.simulations
        task = simulations.requests.task[row, :count]
        model = np.maximum(simulations.outcome.model[row, :count], 0)
        quality = np.asarray(self._catalogue.quality)[task * len(self._catalogue.context) + model]
        peak = np.asarray(self._catalogue.best_quality)[task]
        return float(simulations.outcome.share[row, :count] @ np.maximum(quality, 0.0)), float(peak.sum())

    def arrays(self) -> list[Array]:
        """Everything a checkpoint must hold, in a fixed order."""
        batch = self.batch
        return [*_arrays(batch.simulations), batch.count, batch.slot, batch.observation, batch.allowed]


def new_memory(simulations: Simulations, length: int) -> environment.Memory:
    """Empty rings of ``length`` decisions. A ring must hold an episode: its first request may be the last to end."""
    rows, width = simulations.batch.observation.shape
    models = simulations.batch.allowed.shape[1]
    return environment.Memory(
        observation=np.zeros((rows, length, width), np.float32),
        allowed=np.zeros((rows, length, models), np.int64),
        action=np.zeros((rows, length), np.int64),
        reward=np.zeros((rows, length), np.float32),
        slot=np.zeros((rows, length), np.int64),
        last=np.zeros((rows, length), np.int64),
        begun=np.zeros(rows, np.int64),
        made=np.zeros(rows, np.int64),
        settled=np.zeros(rows, np.int64),
    )


class Replay:
    """The rings of a training and the transitions drawn from them."""

    def __init__(self, simulations: Simulations, length: int, batch: int, steps: int, gamma: float) -> None:
        rows, width = simulations.batch.observation.shape
        models = simulations.batch.allowed.shape[1]
        self.memory = new_memory(simulations, length)
        self.transitions = replay.Transitions(
            observation=np.zeros((batch, width), np.float32),
            action=np.zeros(batch, np.int64),
            returns=np.zeros(batch, np.float32),
            discount=np.zeros(batch, np.float32),
            following=np.zeros((batch, width), np.float32),
            allowed=np.zeros((batch, models), np.int64),
        )
        self._summed = np.zeros(rows + 1, np.int64)
        self._steps = steps
        self._gamma = gamma
        self._compiled = compiled(REPLAY)

    def ready(self) -> int:
        """How many decisions may be drawn now; call it before `draw`."""
        total: int = self._compiled.count_ready(self.memory, self._steps, self._summed)
        return total

    def draw(self, uniform: NDArray[np.float64]) -> replay.Transitions:
        """Transitions at the places ``uniform`` of all that `ready` counted; the arrays are used again."""
        self._compiled.draw(self.memory, self._summed, uniform, self._steps, self._gamma, self.transitions)
        return self.transitions

    def forget(self) -> None:
        """Learn from nothing that was decided before now; call it when every episode is over."""
        self.memory.begun[:] = self.memory.made

    def arrays(self) -> list[Array]:
        """Everything a checkpoint must hold, in a fixed order."""
        return list(self.memory)


def _arrays(simulation: kernel.Simulation) -> list[Array]:
    """Every array that a run mutates or reads of its workload, not the catalogue's."""
    return [
        array for part in simulation if isinstance(part, tuple) and not isinstance(part, Catalogue) for array in part
    ]


def _stacked(simulation: kernel.Simulation, rows: int) -> kernel.Simulation:
    def stack(part: Any) -> Any:
        return type(part)._make(np.stack([array] * rows) for array in part)

    return simulation._replace(
        fleet=stack(simulation.fleet),
        trackers=stack(simulation.trackers),
        requests=stack(simulation.requests),
        outcome=stack(simulation.outcome),
        figures=stack(simulation.figures),
        deaths=stack(simulation.deaths),
    )


def _padded(circumstances: Circumstances, routers: int, deaths: int) -> Circumstances:
    """The same with polls for ``routers`` routers and ``deaths`` deaths: routers that never ask, deaths never."""
    figures = circumstances.figures
    missing = routers - len(figures.polls)
    if missing < 0:
        raise ValueError(f"load figures for {len(figures.polls)} routers, room for {routers}")
    never = ((np.inf, 0, True),) * (deaths - len(circumstances.deaths))
    equal = 1.0 / len(figures.polls)
    polls = tuple(replace(poll, share=poll.share or equal) for poll in figures.polls)
    silent = (Poll(interval=np.inf, first=np.inf),) * missing
    return replace(
        circumstances,
        figures=replace(figures, polls=polls + silent),
        deaths=circumstances.deaths + never,
    )
