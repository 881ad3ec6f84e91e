"""Fault after fault on one service under steady load, each with clients of its own and a verdict."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bes_api.router_config import DeadlineAwarePolicy, DirectLoad, LearnedPolicy, RouterConfig
from bes_api.scenario import Scenario
from bes_lab.faults.judge import Afterwards, Moments, Verdict, judge
from bes_lab.faults.seen import Seen
from bes_lab.faults.steps import Step
from bes_lab.faults.system import System
from bes_lab.local.plan import Plan
from bes_lab.local.prometheus import LocalPrometheus
from bes_lab.local.service import LocalService

FALLBACK = DeadlineAwarePolicy()
RESPONSE_SECONDS = 2.0
"""A hanging engine is given up after so long: the default of two minutes would outlast every fault."""
DRAINED_SECONDS = 5.0


@dataclass(frozen=True)
class Campaign:
    """Seconds before, during (at least) and after every fault, and the load."""

    scenario: Scenario
    folder: Path
    load: DirectLoad | LocalPrometheus
    artifact: Path | None
    rate: float = 50.0
    before_seconds: float = 4.0
    hold_seconds: float = 4.0
    after_seconds: float = 4.0
    seed: int = 1
    routers: int = 2


@contextmanager
def started(campaign: Campaign) -> Iterator[System]:
    """The service, configured for the campaign."""
    folder = campaign.folder
    folder.mkdir(parents=True, exist_ok=True)
    serving = None
    if campaign.artifact is not None:
        serving, original = folder / "artifact", folder / "artifact-original"
        for place in (serving, original):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(campaign.artifact, place)
    policy = FALLBACK if serving is None else LearnedPolicy(artifact=serving.absolute())
    plan = Plan(
        "faults", campaign.scenario, policy, FALLBACK, campaign.load, folder / "service", routers=campaign.routers
    )
    with LocalService(plan) as service:
        system = System(plan, service, folder, serving)
        system.configure(_patient)
        service.wait_for_figures()
        yield system


def _patient(config: RouterConfig) -> RouterConfig:
    limits = config.limits.model_copy(update={"response_timeout_seconds": RESPONSE_SECONDS})
    return config.model_copy(update={"limits": limits})


def run(campaign: Campaign, steps: Sequence[Step], say: Callable[[str], None]) -> list[Verdict]:
    """Every fault in turn."""
    verdicts = []
    with started(campaign) as system:
        for number, step in enumerate(steps):
            say(f"[{number + 1}/{len(steps)}] {step.title}")
            verdict = carry_out(system, campaign, step, campaign.seed * 1000 + number)
            say(_line(verdict))
            verdicts.append(verdict)
    return verdicts


def carry_out(system: System, campaign: Campaign, step: Step, seed: int) -> Verdict:
    """One fault under load."""
    living = [router for router in system.routers if router != step.ends_router]
    counted = [system.figures(router).requests for router in living]
    with system.clients(campaign.rate, seed) as seen:
        system.wait_for_all()
        time.sleep(campaign.before_seconds)
        began = time.monotonic()
        step.begin(system)
        begun = time.monotonic()
        time.sleep(campaign.hold_seconds * step.hold_factor)
        hits = None if step.strikes is None else system.hits(system.engine(*step.strikes))
        ending = time.monotonic()
        step.end(system)
        moments = Moments(began, begun, ending, time.monotonic())
        time.sleep(campaign.after_seconds)
    in_flight = _drained(system)
    now = [system.figures(router).requests for router in living]
    unaccounted = sum(
        abs(after - before - sent_to(seen, router)) for router, before, after in zip(living, counted, now, strict=True)
    )
    return judge(step, campaign.scenario, seen, moments, Afterwards(in_flight, unaccounted, hits))


def sent_to(seen: Sequence[Seen], router: int) -> int:
    """Requests that reached it, by the clients' account."""
    return sum(each.router == router and each.reached for each in seen)


def _drained(system: System) -> float:
    """Requests in flight by the routers' account, once they are none or it has taken too long."""
    limit = time.monotonic() + DRAINED_SECONDS
    while True:
        left = sum(system.figures(router).values["bes_router_in_flight"] for router in system.routers)
        if not left or time.monotonic() > limit:
            return left
        time.sleep(0.05)


def _line(verdict: Verdict) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.kinds.items()))
    figures = [verdict.performance_before, verdict.performance_during, verdict.performance_after]
    notes = "".join(f"\n      {note}" for note in verdict.notes)
    return (
        f"    {kinds}; failed {verdict.failed}, excused {verdict.excused}, spoiled {verdict.spoiled}, unaccounted "
        f"{verdict.unaccounted}, in flight {verdict.in_flight_after:g}, hits {verdict.hits}; performance "
        f"{' -> '.join(f'{figure:.1f}' for figure in figures)}{notes}"
    )
