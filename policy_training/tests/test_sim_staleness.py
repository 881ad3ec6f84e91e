"""The blended view makes old figures as good as live ones, also with several routers whose shares it learns online."""

from dataclasses import replace

import numpy as np
import pytest
from policy_scenarios import opt_scenario
from sim_runs import poisson

from bes_router.policy import blend, placement, rules
from bes_training.evolution.traces import draw_trace
from bes_training.simulation import kernel
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.simulation.simulate import compiled_catalogue, new_simulation, outcomes_of, play, rule_brain
from bes_training.workloads.requests import Mix, spread
from bes_training.workloads.workload import Setting

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

PRICED = np.array([rules.NO_GATE, 0.2, 0.1, 1.0, 1.0, 0.0, *(rules.NO_GATE,) * 3])
UNEQUAL = {1: (1.0,), 2: (0.7, 0.3), 3: (0.6, 0.2, 0.2), 4: (0.7, 0.1, 0.1, 0.1)}
LOADS = (62.0, 200.0, 500.0)
REQUESTS = 8000
SCENARIO = opt_scenario(max_in_flight=4000)
CATALOGUE = compiled_catalogue(SCENARIO.model_dump_json())


def finished_run(figures: LoadFigures, shares: tuple[float, ...], rate: float) -> kernel.Simulation:
    workload = poisson(SCENARIO, rate, REQUESTS, seed=int(rate), routers=shares)
    simulation = new_simulation(CATALOGUE, workload, SCENARIO.max_in_flight, Circumstances(figures))
    play(simulation, rule_brain(CATALOGUE, rules.PRICED, placement.LEAST_LOADED, PRICED))
    return simulation


def performance(figures: LoadFigures, shares: tuple[float, ...]) -> float:
    """Mean over loads of reward over peak."""
    outcomes = [outcomes_of(finished_run(figures, shares, rate)) for rate in LOADS]
    return float(np.mean([each.reward.sum() / each.peak.sum() for each in outcomes]))


@pytest.mark.parametrize("routers", UNEQUAL)
@pytest.mark.parametrize("age", [1.0, 5.0, 15.0])
def test_old_figures_cost_a_priced_rule_about_a_point(routers: int, age: float) -> None:
    live = performance(LoadFigures.live(routers), UNEQUAL[routers])
    old = performance(LoadFigures.old(routers, 12, age, np.random.default_rng(0)), UNEQUAL[routers])
    assert live > 0.8
    assert old > live - 0.012


@pytest.mark.parametrize("age", [0.0, 1.0, 5.0])
def test_each_router_learns_its_share_of_the_traffic(age: float) -> None:
    """It begins with an equal share."""
    shares = UNEQUAL[4]
    figures = LoadFigures.old(4, 12, age, np.random.default_rng(0)) if age else LoadFigures.live(4)
    simulation = finished_run(figures, shares, 200.0)
    assert simulation.trackers.scalars[:, blend.SHARE] == pytest.approx(np.array(shares), abs=0.07)
    assert simulation.trackers.scalars[0, blend.SHARE] > 2 * simulation.trackers.scalars[1, blend.SHARE]


def test_figures_that_never_come_leave_own_counts_and_the_first_share() -> None:
    simulation = finished_run(LoadFigures.none(2), (0.5, 0.5), 200.0)
    assert simulation.trackers.scalars[:, blend.SHARE].tolist() == [0.5, 0.5]
    assert not simulation.trackers.known.any()
    outcomes = outcomes_of(simulation)
    live = outcomes_of(finished_run(LoadFigures.live(2), (0.5, 0.5), 200.0))
    assert outcomes.reward.sum() > 0.98 * live.reward.sum()


def test_a_share_that_jumps_is_found_within_three_scrapes() -> None:
    """From .25 to .7 at 20 s: what an engine counted reaches back by one, the round that saw both by another."""
    rate, jump, age = 200.0, 20.0, 5.0
    plain = poisson(SCENARIO, rate, REQUESTS, seed=3)
    halves = np.array([(0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1)])
    for seed in range(3):
        random = np.random.default_rng(seed)
        workload = spread(random, plain, Mix(np.array([0.0, jump]), halves)).head(int(rate * (jump + 3 * age + 1.5)))
        simulation = new_simulation(
            CATALOGUE, workload, SCENARIO.max_in_flight, Circumstances(LoadFigures.old(4, 12, age, random))
        )
        play(simulation, rule_brain(CATALOGUE, rules.PRICED, placement.LEAST_LOADED, PRICED))
        assert simulation.trackers.scalars[:, blend.SHARE] == pytest.approx(halves[1], abs=0.06)


def test_what_is_left_of_clock_skew_costs_nothing_to_speak_of() -> None:
    old = LoadFigures.old(4, 12, 1.0, np.random.default_rng(0))
    late = replace(old, polls=tuple(replace(poll, lag=0.01) for poll in old.polls))
    assert performance(late, UNEQUAL[4]) == pytest.approx(performance(old, UNEQUAL[4]), abs=0.005)


def test_engines_that_do_not_count_what_they_finish_leave_the_requests_in_flight_to_learn_from() -> None:
    figures = replace(LoadFigures.old(4, 12, 1.0, np.random.default_rng(0)), counted=False)
    simulation = finished_run(figures, UNEQUAL[4], 200.0)
    assert simulation.trackers.scalars[:, blend.SHARE] == pytest.approx(np.array(UNEQUAL[4]), abs=0.1)


def test_after_prometheus_stopped_the_last_share_stays_and_after_it_came_back_shares_are_learned_again() -> None:
    random = np.random.default_rng(4)
    old = LoadFigures.old(2, 12, 1.0, random)
    plain = poisson(SCENARIO, 200.0, REQUESTS, seed=3)
    jump = Mix(np.array([0.0, 10.0]), np.array([(0.5, 0.5), (0.8, 0.2)]))
    shares = {}
    for until in (np.inf, 25.0):
        workload = spread(np.random.default_rng(5), plain, jump)
        circumstances = Circumstances(replace(old, outage=(8.0, until)))
        simulation = new_simulation(CATALOGUE, workload, SCENARIO.max_in_flight, circumstances)
        play(simulation, rule_brain(CATALOGUE, rules.PRICED, placement.LEAST_LOADED, PRICED))
        shares[until] = simulation.trackers.scalars[0, blend.SHARE]
        newest = simulation.trackers.figure_at.max()
        assert newest < 8.0 if until == np.inf else newest > 35.0
    assert shares[np.inf] == pytest.approx(0.5, abs=0.07)
    assert shares[25.0] == pytest.approx(0.8, abs=0.07)


def test_a_training_draws_all_of_it_and_leaves_half_of_its_traces_plain() -> None:
    random = np.random.default_rng(8)
    traces = [draw_trace(random, SCENARIO, Setting.of(SCENARIO, 124.0), 300) for _ in range(200)]
    figures = [trace.circumstances.figures for trace in traces]
    plain = [each for each in figures if each.interval == 0.0 and len(each.polls) == 1]
    old = [each for each in figures if each.interval > 0.0]
    assert 90 < len(plain) < 140
    assert {each.interval for each in old} == {1.0, 5.0, 15.0}
    assert {len(each.polls) for each in old} == {1, 2, 3, 4}
    assert {each.counted for each in old} == {True, False}
    assert {each.outage[0] < np.inf for each in old} == {True, False}
    assert {each.polls[0].share is None for each in old} == {True, False}
    assert 0.0 < max(poll.lag for each in old for poll in each.polls) <= 0.02
    for trace in traces:
        new_simulation(CATALOGUE, trace.workload, 100, trace.circumstances)
