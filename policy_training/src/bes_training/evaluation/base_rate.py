"""The base rate: what the largest model alone serves in time. Every load multiple refers to it."""

from collections.abc import Callable, Sequence

import numpy as np

from bes_api.errors import BestEffortError
from bes_api.scenario import Scenario
from bes_training.evaluation.figures import Simulate
from bes_training.workloads.arrivals import arrivals, constant
from bes_training.workloads.requests import Mix, assemble
from bes_training.workloads.workload import Floats, Setting, Workload

IN_TIME = 0.99
SEEDS = (1, 2, 3)
REQUESTS = 6_000
PRECISION = 0.002
"""Relative width at which the bisection ends."""
HIGHEST_RATE = 1e6


class NoBaseRateError(BestEffortError):
    """The largest model alone misses deadlines even when it is idle, so no load can be a multiple of its base."""


def largest_model(scenario: Scenario) -> str:
    """The model with the highest mean quality over the tasks (absent counts 0): the one that peak assumes."""
    quality = {
        model.name: sum(task.quality.get(model.name, 0.0) for task in scenario.tasks) for model in scenario.models
    }
    return max(quality, key=lambda name: quality[name])


def measure_base(
    scenario: Scenario, simulate: Simulate, *, requests: int = REQUESTS, seeds: Sequence[int] = SEEDS
) -> float:
    """The Poisson rate (requests/s) at which 99 % are in time, to 0.2 %; deterministic.

    ``simulate`` runs the static policy of ``largest_model``. Each seed's gaps are the same at every rate, only scaled,
    so the share in time hardly jumps between rates. Raises NoBaseRateError when not even an idle service meets it.
    """
    gaps = [arrivals(np.random.default_rng([seed, 99]), constant(1.0, float(requests))) for seed in seeds]

    def meets(rate: float) -> bool:
        runs = [simulate(_poisson(scenario, seed, unit, rate)) for seed, unit in zip(seeds, gaps, strict=True)]
        hits = sum(int(run.in_time.sum()) for run in runs)
        return hits >= IN_TIME * sum(len(run.time) for run in runs)

    low, high = _bracket(scenario, meets)
    while high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if meets(middle) else (low, middle)
    return float(f"{low:.4g}")


def _bracket(scenario: Scenario, meets: Callable[[float], bool]) -> tuple[float, float]:
    """Two rates a factor 2 apart, the lower of which is met. The search starts at one request per longest deadline."""
    rate = 1 / max(task.zero_from_seconds for task in scenario.tasks)
    if meets(rate):
        while meets(rate * 2):
            rate *= 2
            if rate > HIGHEST_RATE:
                raise NoBaseRateError(f"the largest model meets its deadlines at any rate up to {HIGHEST_RATE:g}/s")
        return rate, rate * 2
    for _ in range(12):
        rate /= 2
        if meets(rate):
            return rate, rate * 2
    raise NoBaseRateError(
        f"model {largest_model(scenario)!r} alone misses more than 1 % of the deadlines even when idle; "
        "loosen the deadlines or give it a faster profile"
    )


def _poisson(scenario: Scenario, seed: int, unit: Floats, rate: float) -> Workload:
    setting = Setting.of(scenario, rate)
    duration = float(unit[-1]) / rate
    rng = np.random.default_rng([seed, 7])
    mix = Mix.uniform(len(scenario.tasks))
    return assemble(rng, f"base/{seed}", unit / rate, duration, setting, mix)
