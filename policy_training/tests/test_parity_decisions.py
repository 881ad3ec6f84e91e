"""Whole decisions: the simulator run plainly, run compiled, and the router's own objects fed with the same events."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from policy_scenarios import learned_artifact, opt_scenario, paper_artifact
from sim_runs import brain_of, every_brain, fresh, poisson

from bes_api.router_config import DeadlineAwarePolicy, Placement, PricedPolicy, StaticPolicy, ThresholdPolicy
from bes_api.scenario import Batching, Scenario
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.defaults import default_parameters
from bes_router.policy.layout import RoutingRequest
from bes_router.policy.load import KINDS, PLACEMENTS, load_policy
from bes_router.policy.policies import LearnedPolicy, PaperPolicy
from bes_router.policy.tracker import LoadTracker
from bes_training.simulation import kernel
from bes_training.simulation.brain import Brain
from bes_training.simulation.circumstances import Circumstances, LoadFigures, Poll
from bes_training.simulation.simulate import arrays_of, play, rule_brain

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

SHARED = opt_scenario(interference=1.0, max_in_flight=150)
ISOLATED = opt_scenario(batching=Batching.CHUNKED_PREFILL, max_in_flight=150)
SCENARIOS = pytest.mark.parametrize("scenario", [SHARED, ISOLATED], ids=["shared", "isolated-chunked"])
ARRAYS = arrays_of(catalogue_of(SHARED))
DEATHS = ((0.4, 9, False), (0.4, 0, False), (1.2, 9, True), (1.5, 0, True))
OLD = LoadFigures(
    polls=(Poll(0.21, 0.11, 0.05), Poll(0.3, 0.03, 0.02, lag=0.004)),
    interval=0.5,
    phases=tuple(0.5 * (0.377 * engine % 1.0) for engine in range(12)),
    outage=(1.1, 2.2),
)
CIRCUMSTANCES = {
    "one router": Circumstances(deaths=DEATHS),
    "two routers, live": Circumstances(LoadFigures.live(2), DEATHS),
    "two routers, old figures": Circumstances(OLD, DEATHS),
}


@SCENARIOS
@pytest.mark.parametrize("when", CIRCUMSTANCES)
@pytest.mark.parametrize("name", every_brain(SHARED, ARRAYS))
def test_a_plain_run_and_a_compiled_run_decide_alike_request_by_request(
    scenario: Scenario, when: str, name: str
) -> None:
    catalogue, circumstances = catalogue_of(scenario), CIRCUMSTANCES[when]
    routers = (1.0,) if when == "one router" else (0.6, 0.4)
    workload = poisson(scenario, 400.0, 150, seed=5, routers=routers, length_cv=0.4)
    plain, compiled_ = (fresh(scenario, catalogue, workload, circumstances) for _ in range(2))
    kernel.run(plain, every_brain(scenario, plain.catalogue)[name])
    play(compiled_, every_brain(scenario, compiled_.catalogue)[name])
    assert plain.outcome.engine.tolist() == compiled_.outcome.engine.tolist()
    assert plain.outcome.status.tolist() == compiled_.outcome.status.tolist()
    np.testing.assert_allclose(plain.outcome.finish, compiled_.outcome.finish, rtol=0, atol=1e-9)
    np.testing.assert_allclose(plain.outcome.share, compiled_.outcome.share, rtol=0, atol=1e-9)


class Figure(NamedTuple):
    """An engine's figures beside the router's own of (about) the same instant."""

    at: float
    count: int
    own: float
    ended: int
    own_ended: float


class Router:
    """What a router holds, what Prometheus holds for it, and the answer on its way."""

    def __init__(self, policy: Policy, tracker: LoadTracker, limit: int, engines: int) -> None:
        self.policy, self.tracker, self.limit = policy, tracker, limit
        self.stored: list[Figure | None] = [None] * engines
        self.asked: list[Figure | None] = [None] * engines
        self.taken: list[Figure | None] = [None] * engines

    def decide(self, request: RoutingRequest, now: float) -> int:
        self.tracker.arrived(now)
        if self.tracker.in_flight >= self.limit:
            return -1
        engine = self.policy.choose(request, self.tracker.view(now), now).engine
        if engine >= 0:
            self.tracker.sent(engine, now)
        return engine

    def answered(self) -> None:
        pairs = zip(self.asked, self.taken, strict=True)
        spans = [(new, old) for new, old in pairs if new and old and new.at > old.at]
        served = (
            (sum(new.own_ended - old.own_ended for new, old in spans), sum(new.ended - old.ended for new, old in spans))
            if spans
            else None
        )
        self.tracker.snapshot(
            [None if each is None else each.count for each in self.asked],
            [0.0 if each is None else each.own for each in self.asked],
            [0.0 if each is None else each.at for each in self.asked],
            served,
        )
        self.taken = self.asked


ENDS, DEATH, SCRAPE, ANSWER, POLL, ARRIVAL = range(6)


def events_of(simulation: kernel.Simulation, circumstances: Circumstances) -> Iterator[tuple[float, int, int, int]]:
    """(instant, what, index, router) in the simulation's order."""
    outcome, requests, figures = simulation.outcome, simulation.requests, circumstances.figures
    last = float(requests.time[-1])
    events = [(float(requests.time[slot]), ARRIVAL, slot, 0) for slot in range(len(requests.time))]
    events += [(float(outcome.finish[slot]), ENDS, slot, 0) for slot in np.flatnonzero(outcome.engine >= 0).tolist()]
    events += [(at, DEATH, index, 0) for index, (at, _, _) in enumerate(circumstances.deaths)]
    for engine, phase in enumerate(figures.phases):
        for at in each(phase, figures.interval, last):
            if not figures.outage[0] <= at < figures.outage[1]:
                events.append((at, SCRAPE, engine, 0))
    for router, poll in enumerate(figures.polls if figures.phases else ()):
        for at in each(poll.first, poll.interval, last):
            events += [(at, POLL, 0, router), (at + poll.delay, ANSWER, 0, router)]
    return iter(sorted(events))


def each(first: float, interval: float, last: float) -> Iterator[float]:
    """Every ``interval`` from ``first`` to ``last``, summed as the simulator sums."""
    while first <= last:
        yield first
        first += interval


def replayed(
    scenario: Scenario, policy: Policy, simulation: kernel.Simulation, circumstances: Circumstances
) -> list[int]:
    """The engines that routers choose when what they can observe happens as it did in the simulation."""
    catalogue, requests, outcome = catalogue_of(scenario), simulation.requests, simulation.outcome
    polls, engines = circumstances.figures.polls, len(catalogue.engine_model)
    trackers = [LoadTracker(catalogue, 0.0, share=1 / len(polls)) for _ in polls]
    routers = [Router(policy, tracker, scenario.max_in_flight, engines) for tracker in trackers]
    in_flight, ended, ready = [0] * engines, [0] * engines, [True] * engines
    chosen = []
    pending: list[tuple[float, int, int, Figure]] = []
    for now, what, index, router in events_of(simulation, circumstances):
        while pending and pending[0][0] <= now:
            at, by, engine, figure = pending.pop(0)
            tracker = trackers[by]
            routers[by].stored[engine] = figure._replace(
                at=at, own=tracker.own[engine], own_ended=tracker.finished_own[engine]
            )
        if what == ENDS:
            trackers[requests.router[index]].finished(int(outcome.engine[index]))
            in_flight[outcome.engine[index]] -= 1
            ended[outcome.engine[index]] += 1
        elif what == DEATH:
            _, engine, ready[engine] = circumstances.deaths[index]
            for tracker in trackers:
                tracker.set_ready(engine, ready[engine])
        elif what == SCRAPE and ready[index]:
            figure = Figure(now, in_flight[index], 0.0, ended[index], 0.0)
            pending += [(now + poll.lag, by, index, figure) for by, poll in enumerate(polls)]
            pending.sort(key=lambda entry: entry[0])
        elif what == POLL:
            routers[router].asked = list(routers[router].stored)
        elif what == ANSWER:
            routers[router].answered()
        elif what == ARRIVAL:
            task = int(requests.task[index])
            full, zero = catalogue.full_until[task], catalogue.zero_from[task]
            lengths = int(requests.prompt[index]), int(requests.output[index])
            request = RoutingRequest(task, *lengths, now + full, now + zero)
            chosen.append(routers[requests.router[index]].decide(request, now))
            if chosen[-1] >= 0:
                in_flight[chosen[-1]] += 1
    return chosen


def pairs(scenario: Scenario) -> dict[str, tuple[Policy, Brain]]:
    """Each policy as the router loads it and as the simulator plays it."""
    catalogue = catalogue_of(scenario)
    arrays = arrays_of(catalogue)
    both: dict[str, tuple[Policy, Brain]] = {}
    for choice in (
        StaticPolicy(model="opt-1.3b"),
        DeadlineAwarePolicy(placement=Placement.LEAST_FINISH),
        PricedPolicy(placement=Placement.LEAST_FINISH),
        ThresholdPolicy(placement=Placement.LEAST_LOADED),
    ):
        kind = KINDS[choice.type]
        parameters = [1e9, 1.0] if choice.type == "Static" else default_parameters(catalogue, kind)
        brain = rule_brain(arrays, kind, PLACEMENTS[choice.placement], np.array(parameters))
        both[choice.type] = load_policy(choice, scenario, catalogue), brain
    learned, paper = learned_artifact(scenario, 3), paper_artifact(scenario, 3)
    both["Learned"] = LearnedPolicy(catalogue, learned), brain_of(arrays, learned)
    both["Paper"] = PaperPolicy(catalogue, paper), brain_of(arrays, paper)
    return both


@SCENARIOS
@pytest.mark.parametrize("when", ["one router", "two routers, old figures"])
@pytest.mark.parametrize("name", ["Static", "DeadlineAware", "Priced", "Threshold", "Learned", "Paper"])
def test_a_router_fed_with_a_simulations_events_makes_the_simulations_decisions(
    scenario: Scenario, when: str, name: str
) -> None:
    policy, brain = pairs(scenario)[name]
    circumstances = CIRCUMSTANCES[when]
    routers = (1.0,) if when == "one router" else (0.6, 0.4)
    workload = poisson(scenario, 400.0, 1500, seed=6, routers=routers, length_cv=0.4)
    simulation = fresh(scenario, catalogue_of(scenario), workload, circumstances)
    play(simulation, brain)
    assert replayed(scenario, policy, simulation, circumstances) == simulation.outcome.engine.tolist()
    assert len(set(simulation.outcome.engine.tolist())) >= 4
