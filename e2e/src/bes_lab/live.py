"""One live run: a fresh local service under one policy, the same arrivals over real HTTP, judged.

Engines and router are started anew for every run; nothing of the run before is left in a queue.
"""

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bes_api.router_config import DirectLoad, PolicyChoice, RulePolicy
from bes_api.scenario import Scenario
from bes_api.service import EngineType
from bes_lab.clips import Arrivals
from bes_lab.local.plan import Plan
from bes_lab.local.policies import name_of
from bes_lab.local.prometheus import LocalPrometheus
from bes_lab.local.service import LocalService
from bes_lab.replay.bodies import bodies_of
from bes_lab.replay.client import send_all
from bes_lab.replay.outcomes import Outcomes, Summary, judge, summarize
from bes_training.workloads.workload import Ints

DRAIN_SECONDS = 6.0
_BUCKET = re.compile(r'^bes_router_dispatch_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Contender:
    """A policy that takes part, under the name that table and picture show."""

    name: str
    choice: PolicyChoice


@dataclass(frozen=True)
class Stage:
    """What is the same for every contender."""

    service: str
    scenario: Scenario
    load: DirectLoad | LocalPrometheus
    fallback: RulePolicy
    arrivals: Arrivals
    folder: Path
    engines: Mapping[str, EngineType]
    """What each model's engines speak."""
    shares: tuple[float, ...] = (1.0,)
    """One router for each, with that share of the requests."""
    share_seed: int = 0
    outage_seconds: float | None = None
    """After so long Prometheus is stopped, and stays so."""

    def routers(self) -> Ints:
        """The router of each request."""
        generator = np.random.default_rng(self.share_seed)
        return generator.choice(len(self.shares), self.arrivals.time.size, p=self.shares).astype(np.int64)


@dataclass(frozen=True)
class LiveRun:
    """What one contender made of the arrivals."""

    contender: Contender
    outcomes: Outcomes
    summary: Summary
    cpu_seconds: dict[str, float]
    """CPU time by process while the requests ran."""
    router_p50_seconds: float
    """The router's own added time: from a request's last byte to its sending, the median."""
    invalid_before: tuple[str, ...]
    """Why earlier attempts of this run did not count."""


def contender(choice: PolicyChoice) -> Contender:
    """A policy under its usual name."""
    return Contender(name_of(choice), choice)


def run_live(stage: Stage, who: Contender, attempts: int) -> LiveRun:
    """Run until a run is valid, at most ``attempts`` times; the last one is returned either way."""
    reasons: list[str] = []
    while True:
        run = _run_once(stage, who, tuple(reasons))
        if run.summary.valid or len(reasons) + 1 >= attempts:
            return run
        reasons.extend(run.summary.invalid_because[:1])


def _run_once(stage: Stage, who: Contender, before: tuple[str, ...]) -> LiveRun:
    folder = stage.folder / re.sub(r"[^A-Za-z0-9.-]+", "-", who.name).strip("-")
    plan = Plan(
        stage.service,
        stage.scenario,
        who.choice,
        stage.fallback,
        stage.load,
        folder,
        engines=stage.engines,
        routers=len(stage.shares),
    )
    bodies = bodies_of(stage.arrivals, stage.scenario.tasks)
    with LocalService(plan) as service:
        service.wait_for_figures()
        used = service.cpu_seconds()
        due, to = stage.arrivals.time.tolist(), stage.routers().tolist()
        with _outage(service, stage.outage_seconds):
            measured = send_all(service.urls, due, bodies, DRAIN_SECONDS, to=to)
        service.check()
        cpu = {name: seconds - used[name] for name, seconds in service.cpu_seconds().items()}
        router_p50 = median_of_buckets(service.metrics())
    outcomes = judge(stage.scenario, stage.arrivals, measured)
    summary = summarize(stage.scenario, outcomes, measured)
    return LiveRun(who, outcomes, summary, cpu, router_p50, before)


@contextlib.contextmanager
def _outage(service: LocalService, seconds: float | None) -> Iterator[None]:
    """Stop Prometheus ``seconds`` from now, while the caller sends."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, service.stop_prometheus)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def median_of_buckets(page: str) -> float:
    """Median of the router's dispatch histogram on its metrics page, interpolated in its bucket; NaN where empty."""
    buckets = [(float(bound), float(count)) for bound, count in _BUCKET.findall(page)]
    return _quantile(buckets, 0.5)


def _quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    if not buckets or buckets[-1][1] == 0:
        return float("nan")
    wanted = buckets[-1][1] * share
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-12)
        low, below = bound, count
    return low
