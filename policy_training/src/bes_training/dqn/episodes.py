"""What a training plays: random workloads under random circumstances (age of load figures and all that, deaths)."""

import math
from collections.abc import Sequence

import numpy as np

from bes_api.scenario import Scenario
from bes_router.policy.layout import Catalogue
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.workloads.training import training_workload
from bes_training.workloads.workload import Setting, Workload

MAX_DEATHS = 2
"""Entries of one episode: an engine dies and, if it is in time, returns."""
DEATH_SHARE = 0.2
LIVE_SHARE, OLD_SHARE = 0.6, 0.3  # of the episodes; the rest never sees a figure
OLDEST_SECONDS = 15.0


def hardened(catalogue: Catalogue) -> Catalogue:
    """The catalogue with every deadline hard at the end of its full reward."""
    return catalogue._replace(zero_from=catalogue.full_until)


class Episodes:
    """Draws episodes for a scenario whose base rate (requests/s) is known."""

    def __init__(self, scenario: Scenario, catalogue: Catalogue, base_rate: float, requests: int) -> None:
        self._setting = Setting.of(scenario, base_rate)
        self._engines = len(catalogue.engine_model)
        self._requests = requests

    def draw(self, rng: np.random.Generator) -> tuple[Workload, Circumstances]:
        """One episode. Expired requests are dropped whatever their task says: exploration would bury the GPUs else."""
        workload = training_workload(rng, self._setting, max_requests=self._requests).head(self._requests)
        return workload, Circumstances(
            _figures(rng, workload.router_shares(), self._engines), self._deaths(rng, workload.duration), abort_all=True
        )

    def _deaths(self, rng: np.random.Generator, duration: float) -> tuple[tuple[float, int, bool], ...]:
        if rng.random() >= DEATH_SHARE:
            return ()
        at = float(rng.uniform(0.0, duration))
        engine = int(rng.integers(self._engines))
        return ((at, engine, False), (at + float(rng.uniform(0.05, 0.5)) * duration, engine, True))


def _figures(rng: np.random.Generator, shares: Sequence[float], engines: int) -> LoadFigures:
    kind = rng.random()
    if kind < LIVE_SHARE:
        return LoadFigures.live(len(shares))
    if kind < LIVE_SHARE + OLD_SHARE:
        interval = 0.5 * math.exp(rng.random() * math.log(OLDEST_SECONDS / 0.5))
        return LoadFigures.drawn(interval, shares, engines, rng)
    return LoadFigures.none(len(shares))
