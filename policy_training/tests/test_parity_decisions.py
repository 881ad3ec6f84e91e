"""Whole decisions: the simulator run plainly, run compiled, and the router's own objects fed with the same events."""

from collections.abc import Iterator

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
from bes_training.simulation.simulate import Circumstances, LoadFigures, arrays_of, play, rule_brain

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

SHARED = opt_scenario(interference=1.0, max_in_flight=150)
ISOLATED = opt_scenario(batching=Batching.CHUNKED_PREFILL, max_in_flight=150)
SCENARIOS = pytest.mark.parametrize("scenario", [SHARED, ISOLATED], ids=["shared", "isolated-chunked"])
ARRAYS = arrays_of(catalogue_of(SHARED))
DEATHS = ((0.4, 9, False), (0.4, 0, False), (1.2, 9, True), (1.5, 0, True))
OLD = LoadFigures(interval=(0.5, 0.7), phase=(0.11, 0.23), delay=(0.05, 0.02), skew=(0.0, -0.03))
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


class Router:
    """What a router holds, and the figures on their way to it."""

    def __init__(self, policy: Policy, tracker: LoadTracker, limit: int) -> None:
        self.policy, self.tracker, self.limit = policy, tracker, limit
        self.pending: tuple[float, float, list[int], list[float]] | None = None

    def decide(self, request: RoutingRequest, now: float) -> int:
        self.tracker.arrived(now)
        if self.tracker.in_flight >= self.limit:
            return -1
        if self.pending and self.pending[0] <= now:
            _, at, counts, own_then = self.pending
            self.tracker.snapshot(counts, own_then, at)
            self.pending = None
        engine = self.policy.choose(request, self.tracker.view(now), now).engine
        if engine >= 0:
            self.tracker.sent(engine, now)
        return engine


def events_of(simulation: kernel.Simulation, circumstances: Circumstances) -> Iterator[tuple[float, int, int]]:
    """(instant, what, index) in the simulation's order: ends, deaths, scrapes, arrivals."""
    outcome, requests = simulation.outcome, simulation.requests
    events = [(float(requests.time[slot]), 3, slot) for slot in range(len(requests.time))]
    events += [(float(outcome.finish[slot]), 0, slot) for slot in np.flatnonzero(outcome.engine >= 0).tolist()]
    events += [(at, 1, index) for index, (at, _, _) in enumerate(circumstances.deaths)]
    figures = circumstances.figures
    for router, (interval, phase) in enumerate(zip(figures.interval, figures.phase, strict=True)):
        at = phase
        while interval > 0.0 and at <= requests.time[-1]:
            events.append((at, 2, router))
            at += interval
    return iter(sorted(events))


def replayed(
    scenario: Scenario, policy: Policy, simulation: kernel.Simulation, circumstances: Circumstances
) -> list[int]:
    """The engines that routers choose when what they can observe happens as it did in the simulation."""
    catalogue, requests, outcome = catalogue_of(scenario), simulation.requests, simulation.outcome
    figures = circumstances.figures
    count = len(figures.interval)
    routers = [
        Router(policy, LoadTracker(catalogue, 0.0, share=1 / count), scenario.max_in_flight) for _ in range(count)
    ]
    in_flight = [0] * len(catalogue.engine_model)
    chosen = []
    for now, what, index in events_of(simulation, circumstances):
        if what == 0:
            routers[requests.router[index]].tracker.finished(int(outcome.engine[index]))
            in_flight[outcome.engine[index]] -= 1
        elif what == 1:
            _, engine, ready = circumstances.deaths[index]
            for router in routers:
                router.tracker.set_ready(engine, ready)
        elif what == 2:
            scraping = routers[index]
            skewed = now + figures.skew[index]
            scraping.pending = (now + figures.delay[index], skewed, list(in_flight), list(scraping.tracker.own))
        else:
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
