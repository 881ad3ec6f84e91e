"""One run's figures: performance as share of peak, in-time share, shares of good windows, per task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bes_training.workloads.workload import Workload

WINDOW_SECONDS = 1.0
"""One second: about the time in which a person or a queue notices, and 60 requests at the OPT sample's base."""

Array = NDArray[Any]


class RunOutcomes(Protocol):
    """What became of N requests, one entry per request, in order of arrival."""

    @property
    def time(self) -> Array:
        """Arrival, seconds."""
        ...

    @property
    def task(self) -> Array:
        """Index of the task."""
        ...

    @property
    def model(self) -> Array:
        """Index of the chosen model, below 0 for none."""
        ...

    @property
    def engine(self) -> Array:
        """Index of the chosen engine, below 0 for none."""
        ...

    @property
    def reward(self) -> Array:
        """Quality that counted."""
        ...

    @property
    def peak(self) -> Array:
        """Quality of the best model for the task, had it answered in time."""
        ...

    @property
    def in_time(self) -> Array:
        """Whether the answer was worth anything."""
        ...


Simulate = Callable[[Workload], RunOutcomes]
"""A policy in its simulator: what becomes of a workload."""


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task's part of a run."""

    requests: int
    performance: float
    in_time: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Only windows with arrivals count, and a request counts in the window in which it arrived."""

    requests: int
    performance: float
    in_time: float
    windows_above_96: float
    windows_above_98: float
    per_task: tuple[TaskFigures, ...]


def figures_of(run: RunOutcomes, tasks: int, window_seconds: float = WINDOW_SECONDS) -> Figures:
    """The figures of one run over ``tasks`` tasks; the reward is raw quality, not normalised per task."""
    shares = window_shares(run, window_seconds)
    return Figures(
        requests=len(run.time),
        performance=performance(run.reward, run.peak),
        in_time=float(run.in_time.mean()) if len(run.time) else 1.0,
        windows_above_96=_share(shares >= 0.96),
        windows_above_98=_share(shares >= 0.98),
        per_task=tuple(_task(run, task) for task in range(tasks)),
    )


def performance(reward: Array, peak: Array) -> float:
    """Sum of rewards over sum of peak rewards; 1 where nothing was asked, for nothing was lost."""
    total = float(peak.sum())
    return float(reward.sum()) / total if total > 0 else 1.0


def window_shares(run: RunOutcomes, window_seconds: float) -> NDArray[np.float64]:
    """Performance of each window with arrivals, in time order."""
    window = np.floor_divide(run.time, window_seconds).astype(np.int64)
    reward = np.bincount(window, weights=run.reward)
    peak = np.bincount(window, weights=run.peak)
    seen = peak > 0
    shares: NDArray[np.float64] = reward[seen] / peak[seen]
    return shares


def differing(run: RunOutcomes, other: RunOutcomes) -> float:
    """Share of requests that went to another engine (so also: another model) than in ``other``, the same workload.

    The runs drift apart after the first difference: 0 means the same policy, a large share need not mean much.
    """
    if len(run.time) != len(other.time):
        raise ValueError("differing compares two runs of one workload; these have different numbers of requests")
    return float((run.engine != other.engine).mean()) if len(run.time) else 0.0


def _task(run: RunOutcomes, task: int) -> TaskFigures:
    chosen = run.task == task
    count = int(chosen.sum())
    in_time = float(run.in_time[chosen].mean()) if count else 1.0
    return TaskFigures(count, performance(run.reward[chosen], run.peak[chosen]), in_time)


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else 1.0
