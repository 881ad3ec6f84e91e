"""Simulations side by side play what `kernel.run` plays, and every decision is credited with its own request."""

import numpy as np
import pytest
from policy_scenarios import opt_scenario
from sim_runs import poisson

from bes_router.policy import placement, rules
from bes_router.policy.catalogue import catalogue_of
from bes_training.dqn.episodes import MAX_DEATHS, Episodes, hardened
from bes_training.dqn.vector import Simulations, new_memory
from bes_training.simulation import kernel
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.simulation.simulate import arrays_of, new_simulation, play, rule_brain
from bes_training.workloads.workload import Workload

SCENARIO = opt_scenario(interference=1.0, max_in_flight=150)
ARRAYS = arrays_of(catalogue_of(SCENARIO))
ROUTERS = 3
DEATHS = ((1.0, 9, False), (1.2, 4, False), (2.0, 9, True))
LARGE = 2


def cases() -> list[tuple[Workload, Circumstances]]:
    """Live and old figures, one router and several, deaths, aborts, overload, differing lengths."""
    random = np.random.default_rng(3)
    old = LoadFigures.old(ROUTERS, 12, 1.0, random)
    return [
        (poisson(SCENARIO, 60.0, 300, seed=1), Circumstances()),
        (poisson(SCENARIO, 900.0, 1500, seed=2), Circumstances(abort_all=True)),
        (poisson(SCENARIO, 300.0, 900, 3, (0.5, 0.3, 0.2), 0.4), Circumstances(LoadFigures.live(ROUTERS), DEATHS)),
        (poisson(SCENARIO, 500.0, 1200, 4, (0.6, 0.2, 0.2)), Circumstances(old, DEATHS, abort_all=True)),
        (poisson(SCENARIO, 50.0, 0), Circumstances()),
    ]


def side_by_side(model: int | None) -> Simulations:
    """All cases in one batch, every request sent to ``model``, or to a model by its number."""
    given = cases()
    simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=len(given), requests=1500, routers=ROUTERS, deaths=3)
    memory = new_memory(simulations, 1502)
    for row, (workload, circumstances) in enumerate(given):
        simulations.put(row, workload, circumstances)
        simulations.begin(row)
    turn = 0
    while simulations.awaiting.any():
        simulations.decide(memory, np.full(len(given), turn % 3 if model is None else model))
        turn += 1
    return simulations


def test_a_fixed_policy_has_the_same_outcomes_side_by_side_as_in_a_run_of_its_own() -> None:
    batch = side_by_side(LARGE).batch
    static = rule_brain(ARRAYS, rules.STATIC, placement.LEAST_LOADED, np.array([rules.NO_GATE, float(LARGE)]))
    statuses = set()
    for row, (workload, circumstances) in enumerate(cases()):
        alone = new_simulation(ARRAYS, workload, SCENARIO.max_in_flight, circumstances)
        play(alone, static)
        for name in kernel.Outcome._fields:
            ours = getattr(batch.simulations.outcome, name)[row, : len(workload)]
            np.testing.assert_array_equal(ours, getattr(alone.outcome, name), err_msg=f"{name} of row {row}")
        statuses |= set(alone.outcome.status.tolist())
    assert {kernel.REFUSED, 0, 1, 2} <= statuses, "the cases must cover finished, aborted, lost and refused requests"


def test_a_row_that_is_used_again_forgets_its_former_episode() -> None:
    workload, circumstances = cases()[3]
    simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=1, requests=1500, routers=ROUTERS, deaths=3)
    memory = new_memory(simulations, 1502)
    finishes = []
    for before in (cases()[1], None):
        for played in (before, (workload, circumstances)):
            if played is not None:
                simulations.put(0, *played)
                simulations.begin(0)
                while simulations.awaiting.any():
                    simulations.decide(memory, np.array([1]))
        finishes.append(simulations.batch.simulations.outcome.finish[0, : len(workload)].copy())
    np.testing.assert_array_equal(finishes[0], finishes[1])


def test_every_decision_is_credited_with_what_became_of_its_own_request() -> None:
    simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=2, requests=1500, routers=ROUTERS, deaths=3)
    memory = new_memory(simulations, 1502)
    given = [cases()[1], cases()[3]]
    for row, (workload, circumstances) in enumerate(given):
        simulations.put(row, workload, circumstances)
        simulations.begin(row)
    pending_seen = 0
    random = np.random.default_rng(0)
    while simulations.awaiting.any():
        simulations.decide(memory, random.integers(0, 3, 2))
        pending_seen += int((memory.settled < memory.made).any())
    assert pending_seen > 100, "rewards must come later than decisions, or nothing is tested"
    outcome = simulations.batch.simulations.outcome
    best = max(ARRAYS.best_quality)
    for row, (workload, _) in enumerate(given):
        made = int(memory.made[row])
        slots = memory.slot[row, :made]
        assert memory.settled[row] == made
        assert (np.diff(slots) > 0).all(), "decisions stand in the order of arrival"
        models = outcome.model[row, slots]
        np.testing.assert_array_equal(models, memory.action[row, :made])
        quality = np.asarray(ARRAYS.quality)[workload.task[slots] * 3 + models]
        np.testing.assert_allclose(memory.reward[row, :made], outcome.share[row, slots] * quality / best, rtol=1e-6)
        assert memory.last[row, :made].tolist() == [0] * (made - 1) + [1]
        refused = outcome.status[row, : len(workload)] == kernel.REFUSED
        assert made == len(workload) - int(refused.sum()), "a refused request is nobody's decision"


def test_a_model_whose_engines_are_all_dead_is_not_allowed() -> None:
    simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=1, requests=400, routers=1, deaths=4)
    memory = new_memory(simulations, 402)
    deaths = tuple((1.0, engine, False) for engine in range(8, 12))
    simulations.put(0, poisson(SCENARIO, 200.0, 400), Circumstances(deaths=deaths))
    simulations.begin(0)
    seen = set()
    while simulations.awaiting.any():
        batch = simulations.batch
        slot = int(batch.slot[0])
        late = bool(batch.simulations.requests.time[0, slot] > 1.0)
        ready = batch.simulations.trackers.ready_count[0, 0]
        task = int(batch.simulations.requests.task[0, slot])
        expected = [int(ready[model] > 0 and ARRAYS.quality[task * 3 + model] >= 0.0) for model in range(3)]
        assert batch.allowed[0].tolist() == expected
        seen.add((late, tuple(expected)))
        simulations.decide(memory, np.array([0]))
    assert seen == {(False, (1, 1, 1)), (True, (1, 1, 0))}


def test_hard_deadlines_give_nothing_to_an_answer_after_the_full_reward() -> None:
    workload = poisson(SCENARIO, 400.0, 800)
    shares = {}
    for name, catalogue in (("soft", ARRAYS), ("hard", hardened(ARRAYS))):
        simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=1, requests=800, routers=1)
        memory = new_memory(simulations, 802)
        simulations.put(0, workload, Circumstances(), catalogue)
        simulations.begin(0)
        while simulations.awaiting.any():
            simulations.decide(memory, np.array([LARGE]))
        shares[name] = simulations.batch.simulations.outcome.share[0, :800].copy()
    soft = shares["soft"]
    assert ((soft > 0) & (soft < 1)).any(), "some answers must fall between the two bounds"
    np.testing.assert_array_equal(shares["hard"], np.where(soft == 1.0, 1.0, 0.0))


def test_more_requests_routers_or_deaths_than_there_is_room_for_are_refused() -> None:
    simulations = Simulations(ARRAYS, SCENARIO.max_in_flight, rows=1, requests=100, routers=1)
    with pytest.raises(ValueError, match="room for 100 requests"):
        simulations.put(0, poisson(SCENARIO, 60.0, 101), Circumstances())
    with pytest.raises(ValueError, match="0 deaths"):
        simulations.put(0, poisson(SCENARIO, 60.0, 10), Circumstances(deaths=DEATHS[:1]))
    with pytest.raises(ValueError, match="2 routers, room for 1"):
        simulations.put(0, poisson(SCENARIO, 60.0, 10), Circumstances(LoadFigures.live(2)))


def test_episodes_cover_old_figures_deaths_and_several_routers_and_drop_what_expired() -> None:
    episodes = Episodes(SCENARIO, ARRAYS, 62.0, 300)
    random = np.random.default_rng(0)
    drawn = [episodes.draw(random) for _ in range(60)]
    assert all(len(workload) <= 300 and len(each.deaths) <= MAX_DEATHS for workload, each in drawn)
    assert all(circumstances.abort_all for _, circumstances in drawn)
    figures = [circumstances.figures for _, circumstances in drawn]
    assert {len(each.polls) for each in figures} == {1, 2, 3, 4}
    kinds = {"live" if each.interval == 0.0 else "never" if np.isinf(each.interval) else "old" for each in figures}
    assert kinds == {"live", "old", "never"}
    assert 3 < sum(bool(circumstances.deaths) for _, circumstances in drawn) < 30
