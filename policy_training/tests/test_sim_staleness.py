"""The blended view makes old figures as good as live ones, also with several routers whose shares it learns online."""

import numpy as np
import pytest
from policy_scenarios import opt_scenario
from sim_runs import poisson

from bes_router.policy import blend, placement, rules
from bes_training.simulation import kernel
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.simulation.simulate import compiled_catalogue, new_simulation, outcomes_of, play, rule_brain

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
