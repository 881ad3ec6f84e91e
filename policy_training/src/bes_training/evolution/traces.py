"""The traces of a search: workloads with their circumstances, and what a brain loses on them.

Figure age, phases, delays, what is left of clock skew, outages of Prometheus, router count and dying engines are drawn
here, once per trace, so that every policy and every opponent meets the same ones (common random numbers).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import Scenario
from bes_router.policy.layout import Catalogue
from bes_training.simulation import kernel
from bes_training.simulation.brain import Brain
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.simulation.simulate import compiled_catalogue, fresh, new_simulation, outcomes_of, play
from bes_training.workloads.requests import Mix, spread
from bes_training.workloads.training import training_workload
from bes_training.workloads.workload import Setting, Workload

Float = NDArray[np.float64]
INTERVALS = (0.0, 1.0, 5.0, 15.0)
DEATH_SHARE = 0.1
SHARES = ((0.5, 0.5), (0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1))


@dataclass(frozen=True)
class Trace:
    """One workload with what surrounds it."""

    workload: Workload
    circumstances: Circumstances


def draw_trace(generator: np.random.Generator, scenario: Scenario, setting: Setting, requests: int) -> Trace:
    """A random training trace: half of them with one router and live figures, the others with 1-4 and any age."""
    plain = generator.random() < 0.5
    workload = training_workload(generator, setting, max_requests=requests, max_routers=1 if plain else 4)
    engines = engines_of(scenario)
    figures = LoadFigures.live(1) if plain else _figures(generator, workload, engines)
    deaths = _deaths(generator, engines, workload.duration) if generator.random() < DEATH_SHARE else ()
    return Trace(workload, Circumstances(figures=figures, deaths=deaths))


def draw_guessing(generator: np.random.Generator, scenario: Scenario, setting: Setting, requests: int) -> Trace:
    """A random training trace with several routers and old figures: each of them must guess the load."""
    workload = training_workload(generator, setting, max_requests=requests, min_routers=2)
    return Trace(workload, Circumstances(figures=_old(generator, scenario, workload)))


def spread_guessing(generator: np.random.Generator, scenario: Scenario, workload: Workload) -> Trace:
    """The same requests at several routers with old figures."""
    shares = SHARES[int(generator.integers(len(SHARES)))]
    at_routers = spread(generator, workload, Mix.given(np.array(shares)))
    return Trace(at_routers, Circumstances(figures=_old(generator, scenario, at_routers)))


def _old(generator: np.random.Generator, scenario: Scenario, workload: Workload) -> LoadFigures:
    interval = float(generator.choice(INTERVALS[1:]))
    return LoadFigures.drawn(interval, workload.router_shares(), engines_of(scenario), generator)


def engines_of(scenario: Scenario) -> int:
    """How many engines there are."""
    return sum(model.max_replicas for model in scenario.models)


def _figures(generator: np.random.Generator, workload: Workload, engines: int) -> LoadFigures:
    shares = workload.router_shares()
    interval = float(generator.choice(INTERVALS))
    if interval == 0.0:
        return LoadFigures.live(len(shares))
    return LoadFigures.drawn(interval, shares, engines, generator)


def _deaths(generator: np.random.Generator, engines: int, duration: float) -> tuple[tuple[float, int, bool], ...]:
    engine = int(generator.integers(engines))
    down, up = np.sort(generator.uniform(0.1, 0.9, 2)) * duration
    return ((float(down), engine, False), (float(up), engine, True))


class Field:
    """A set of traces on which brains are measured, two (or more) at a time."""

    def __init__(self, scenario: Scenario, traces: Sequence[Trace], threads: int) -> None:
        self.catalogue: Catalogue = compiled_catalogue(scenario.model_dump_json())
        self.traces = tuple(traces)
        self.decisions = 0
        self._threads = threads
        self._beginnings = [
            new_simulation(self.catalogue, trace.workload, scenario.max_in_flight, trace.circumstances)
            for trace in self.traces
        ]

    def losses(self, brains: Sequence[Brain], which: Sequence[int]) -> Float:
        """1 - performance / peak of each brain on each chosen trace: [len(brains), len(which)]."""
        with ThreadPoolExecutor(self._threads) as pool:
            rows = list(pool.map(lambda brain: self._losses(brain, which), brains))
        self.decisions += len(brains) * sum(len(self.traces[index].workload) for index in which)
        return np.array(rows)

    def _losses(self, brain: Brain, which: Sequence[int]) -> list[float]:
        return [self._loss(brain, self._beginnings[index]) for index in which]

    @staticmethod
    def _loss(brain: Brain, beginning: kernel.Simulation) -> float:
        simulation = fresh(beginning)
        play(simulation, brain)
        outcomes = outcomes_of(simulation)
        return 1.0 - float(outcomes.reward.sum() / outcomes.peak.sum())
