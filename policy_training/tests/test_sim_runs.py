"""Whole runs of the compiled simulator: every request ends once, the same run twice is the same, admission, deaths."""

from types import ModuleType

import numpy as np
import pytest
from policy_scenarios import BASE, opt_scenario
from sim_engines import DECODE_TEN, one_gpu
from sim_runs import at_instants, every_brain, fresh, poisson

from bes_api.scenario import Batching, Measure, OnMiss, Scenario
from bes_router.policy import blend, candidates, formula, paper, placement, rules, scorer
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import idle_latency
from bes_training.simulation import engines, kernel, simulate
from bes_training.simulation.brain import Brain
from bes_training.simulation.circumstances import Circumstances, LoadFigures, Poll
from bes_training.simulation.engines import ABORTED, FINISHED, LOST
from bes_training.simulation.simulate import (
    Outcomes,
    arrays_of,
    learned_brain,
    new_simulation,
    outcomes_of,
    play,
    rule_brain,
)
from bes_training.workloads.workload import Workload

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

SCENARIO = opt_scenario(interference=1.0, max_in_flight=200)
CATALOGUE = catalogue_of(SCENARIO)
ARRAYS = arrays_of(CATALOGUE)
BRAINS = every_brain(SCENARIO, ARRAYS)
DEATHS = ((1.0, 9, False), (1.0, 0, False), (2.5, 9, True), (3.0, 0, True), (3.0, 4, False))
STATIC = rule_brain(ARRAYS, rules.STATIC, placement.LEAST_LOADED, np.array([0.0, 2.0]))


def run(workload: Workload, brain: Brain, circumstances: Circumstances | None = None) -> kernel.Simulation:
    simulation = fresh(SCENARIO, CATALOGUE, workload, circumstances)
    play(simulation, brain)
    return simulation


def one(scenario: Scenario, workload: Workload, circumstances: Circumstances | None = None) -> Outcomes:
    """A scenario of one model."""
    arrays = arrays_of(catalogue_of(scenario))
    simulation = new_simulation(arrays, workload, scenario.max_in_flight, circumstances)
    play(simulation, rule_brain(arrays, rules.STATIC, placement.LEAST_LOADED, np.array([0.0, 0.0])))
    return outcomes_of(simulation)


def bits(outcomes: Outcomes) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in outcomes)


@pytest.mark.parametrize("name", BRAINS)
@pytest.mark.parametrize(("routers", "age"), [(1, 0.0), (1, 5.0), (3, 0.0), (3, 1.0)])
def test_every_request_ends_exactly_once_and_nothing_is_left_behind(name: str, routers: int, age: float) -> None:
    """Overload, deaths and returns, several routers, live and old figures."""
    figures = LoadFigures.old(routers, 12, age, np.random.default_rng(1)) if age else LoadFigures.live(routers)
    workload = poisson(SCENARIO, 800.0, 4000, routers=(1.0,) * routers, length_cv=0.5)
    simulation = run(workload, BRAINS[name], Circumstances(figures, DEATHS))
    fleet, trackers, outcomes = simulation.fleet, simulation.trackers, outcomes_of(simulation)
    counts = np.bincount(outcomes.status, minlength=6)
    assert counts.sum() == 4000
    assert counts[kernel.PENDING] == 0
    assert counts[FINISHED] > 1000
    assert counts[LOST] > 0
    for left in (fleet.waiting, fleet.batch, fleet.prefill_count, fleet.kv_used, fleet.context_sum, fleet.busy):
        assert not left.any()
    assert not trackers.own.any()
    assert not trackers.own_model.any()
    assert not trackers.scalars[:, blend.TOTAL].any()
    assert np.isinf(fleet.next).all()
    sent = outcomes.engine >= 0
    assert (sent == ~np.isin(outcomes.status, (kernel.REFUSED, kernel.NO_MODEL))).all()
    assert (ARRAYS.engine_model[outcomes.engine[sent]] == outcomes.model[sent]).all()
    assert (simulation.outcome.finish >= outcomes.time).all()
    assert (np.isfinite(outcomes.latency) == (outcomes.status == FINISHED)).all()
    assert ((outcomes.reward >= 0) & (outcomes.reward <= outcomes.peak)).all()
    assert (outcomes.in_time == (outcomes.reward > 0)).all()


@pytest.mark.parametrize("name", BRAINS)
def test_the_same_run_twice_is_the_same_to_the_bit_whatever_ran_between(name: str) -> None:
    """No module state: other runs, of this catalogue and of another, come between the two."""
    workload = poisson(SCENARIO, 300.0, 2000, routers=(0.7, 0.3))
    circumstances = Circumstances(LoadFigures.old(2, 12, 1.0, np.random.default_rng(1)), DEATHS)
    first = bits(outcomes_of(run(workload, BRAINS[name], circumstances)))
    run(poisson(SCENARIO, 500.0, 500, seed=9), BRAINS["Learned"])
    one(one_gpu(DECODE_TEN), at_instants([0.0, 0.1]))
    assert bits(outcomes_of(run(workload, BRAINS[name], circumstances))) == first


def test_a_run_leaves_its_catalogue_and_its_workload_alone() -> None:
    arrays, workload = arrays_of(CATALOGUE), poisson(SCENARIO, 300.0, 500)
    before = [array.tobytes() for array in arrays], workload.time.tobytes(), workload.router.tobytes()
    play(new_simulation(arrays, workload, 100), BRAINS["Learned"])
    assert before == ([array.tobytes() for array in arrays], workload.time.tobytes(), workload.router.tobytes())


@pytest.mark.parametrize("batching", list(Batching))
@pytest.mark.parametrize("engine", [0, 4, 8])
def test_a_lone_request_takes_the_idle_latency(batching: Batching, engine: int) -> None:
    scenario = opt_scenario(interference=1.0, batching=batching)
    arrays = arrays_of(catalogue_of(scenario))
    brain = rule_brain(arrays, rules.STATIC, placement.LEAST_LOADED, np.array([0.0, engine / 4]))
    simulation = new_simulation(arrays, at_instants([2.0], prompt=100, output=20), 10)
    play(simulation, brain)
    expected = idle_latency(arrays, int(engine / 4), 100, 20)
    assert outcomes_of(simulation).latency[0] == pytest.approx(expected, abs=1e-9)


def test_beyond_its_limit_a_router_refuses_with_the_full_peak_lost() -> None:
    scenario = one_gpu(DECODE_TEN, batch=1).model_copy(update={"max_in_flight": 3})
    outcomes = one(scenario, at_instants([0.0] * 5 + [60.0]))
    assert outcomes.status.tolist() == [FINISHED] * 3 + [kernel.REFUSED] * 2 + [FINISHED]
    assert outcomes.reward.tolist() == [1.0] * 3 + [0.0] * 2 + [1.0]
    assert outcomes.peak.tolist() == [1.0] * 6
    assert outcomes.engine.tolist() == [0, 0, 0, -1, -1, 0]


def test_each_router_has_a_limit_of_its_own() -> None:
    scenario = one_gpu(DECODE_TEN, batch=1).model_copy(update={"max_in_flight": 2})
    crowd = at_instants([0.0] * 6)
    shared = Workload(
        "given/0", crowd.time, crowd.task, crowd.prompt_tokens, crowd.output_tokens, np.array([0, 1] * 3), 1.0
    )
    outcomes = one(scenario, shared, Circumstances(LoadFigures.live(2)))
    assert outcomes.status.tolist() == [FINISHED] * 4 + [kernel.REFUSED] * 2


def test_a_dead_engine_loses_what_it_holds_is_avoided_and_serves_again_after_its_return() -> None:
    deaths = ((1.0, 8, False), (2.0, 8, True))
    times = [0.5] * 4 + [0.99] * 4 + [1.5] * 4 + [2.5] * 4
    outcomes = outcomes_of(run(at_instants(times), STATIC, Circumstances(deaths=deaths)))
    assert sorted(outcomes.engine[:4].tolist()) == [8, 9, 10, 11]
    assert np.bincount(outcomes.status[4:8], minlength=3).tolist() == [3, 0, 1]
    assert 8 not in outcomes.engine[8:12].tolist()
    assert sorted(outcomes.engine[12:].tolist()) == [8, 9, 10, 11]


def test_while_every_engine_is_dead_nobody_is_eligible() -> None:
    deaths = tuple((1.0, engine, False) for engine in range(12)) + tuple((2.0, engine, True) for engine in range(12))
    for brain in BRAINS.values():
        outcomes = outcomes_of(run(at_instants([0.5, 1.5, 2.5]), brain, Circumstances(deaths=deaths)))
        assert outcomes.status.tolist() == [FINISHED, kernel.NO_MODEL, FINISHED]
        assert outcomes.model[1] == outcomes.engine[1] == -1


def test_a_prompt_beyond_every_context_is_eligible_nowhere() -> None:
    outcomes = outcomes_of(run(at_instants([0.0, 1.0], prompt=2040, output=9), BRAINS["Learned"]))
    assert outcomes.status.tolist() == [kernel.NO_MODEL] * 2


def with_task(scenario: Scenario, **fields: object) -> Scenario:
    return scenario.model_copy(update={"tasks": (scenario.tasks[0].model_copy(update=fields),)})


def test_soft_deadlines_pay_in_full_then_less_then_nothing() -> None:
    """Batch 1, equal requests at once: they finish after one, two, three ... service times."""
    idle = idle_latency(catalogue_of(one_gpu(DECODE_TEN)), 0, 128, 16)
    scenario = with_task(one_gpu(DECODE_TEN, batch=1), full_until_seconds=1.5 * idle, zero_from_seconds=3.5 * idle)
    outcomes = one(scenario, at_instants([0.0] * 4))
    assert outcomes.reward == pytest.approx([1.0, 0.75, 0.25, 0.0])
    assert outcomes.in_time.tolist() == [True, True, True, False]
    stretched = one(scenario, at_instants([0.0] * 4), Circumstances(deadline_factor=2.0))
    assert stretched.reward == pytest.approx([1.0, 1.0, 1.0, 0.75])


def test_a_first_token_deadline_looks_at_the_first_token() -> None:
    prefill = idle_latency(catalogue_of(one_gpu(DECODE_TEN)), 0, 128, 1)
    late = {"full_until_seconds": 1.01 * prefill, "zero_from_seconds": 1.01 * prefill}
    scenario = one_gpu(DECODE_TEN)
    assert one(with_task(scenario, **late, measure=Measure.FIRST_TOKEN), at_instants([0.0])).reward[0] == 1.0
    assert one(with_task(scenario, **late, measure=Measure.COMPLETION), at_instants([0.0])).reward[0] == 0.0


def test_an_answer_whose_first_token_came_in_time_is_not_aborted() -> None:
    prefill = idle_latency(catalogue_of(one_gpu(DECODE_TEN)), 0, 128, 1)
    late = {"full_until_seconds": 1.01 * prefill, "zero_from_seconds": 1.01 * prefill, "on_miss": OnMiss.ABORT}
    outcomes = one(with_task(one_gpu(DECODE_TEN), **late, measure=Measure.FIRST_TOKEN), at_instants([0.0]))
    assert (outcomes.status[0], outcomes.reward[0]) == (FINISHED, 1.0)
    outcomes = one(with_task(one_gpu(DECODE_TEN), **late, measure=Measure.COMPLETION), at_instants([0.0]))
    assert (outcomes.status[0], outcomes.reward[0]) == (ABORTED, 0.0)


@pytest.mark.parametrize(
    ("on_miss", "all_of_them", "how"),
    [(OnMiss.FINISH, False, FINISHED), (OnMiss.ABORT, False, ABORTED), (OnMiss.FINISH, True, ABORTED)],
)
def test_late_requests_finish_or_abort_as_task_or_training_says(on_miss: OnMiss, all_of_them: bool, how: int) -> None:
    scenario = with_task(one_gpu(DECODE_TEN), full_until_seconds=0.1, zero_from_seconds=0.1, on_miss=on_miss)
    outcomes = one(scenario, at_instants([0.0]), Circumstances(abort_all=all_of_them))
    assert outcomes.status[0] == how
    assert outcomes.reward[0] == 0.0


def test_a_workload_of_nothing_is_a_run_of_nothing() -> None:
    assert len(outcomes_of(run(at_instants([]), STATIC)).time) == 0


def plain_workload(**arrays: list[int]) -> Workload:
    fields = {"task": [0, 0], "prompt_tokens": [9, 9], "output_tokens": [9, 9], "router": [0, 0], **arrays}
    return Workload("bad/0", np.array([0.0, 1.0]), *(np.array(each) for each in fields.values()), 1.0)


BAD_WORKLOADS = [
    ({"router": [0, 1]}, "router"),
    ({"router": [0, -1]}, "router"),
    ({"task": [0, 2]}, "task"),
    ({"task": [-1, 0]}, "task"),
    ({"prompt_tokens": [-1, 9]}, "prompt"),
    ({"output_tokens": [9, -1]}, "output"),
]
BAD_CIRCUMSTANCES = [
    (Circumstances(deaths=((1.0, 12, False),)), "engine 12"),
    (Circumstances(deaths=((1.0, -1, False),)), "engine -1"),
    (Circumstances(deaths=((2.0, 0, False), (1.0, 0, True))), "sorted"),
    (Circumstances(deaths=((float("nan"), 0, False),)), "sorted"),
    (Circumstances(figures=LoadFigures(interval=-1.0)), "interval"),
    (Circumstances(figures=LoadFigures(polls=())), "one entry per router"),
    (Circumstances(figures=LoadFigures(interval=1.0, phases=(0.0,) * 11)), "11 phases"),
    (Circumstances(figures=LoadFigures((Poll(delay=2.0),), 1.0, (0.0,) * 12)), "delay"),
    (Circumstances(figures=LoadFigures((Poll(lag=-0.1),), 1.0, (0.0,) * 12)), "lag"),
    (Circumstances(figures=LoadFigures(outage=(2.0, 1.0))), "outage"),
    (Circumstances(deadline_factor=0.0), "deadline_factor"),
    (Circumstances(deadline_factor=float("nan")), "deadline_factor"),
]


@pytest.mark.parametrize(("arrays", "says"), BAD_WORKLOADS)
def test_a_workload_that_does_not_fit_is_refused_in_one_line(arrays: dict[str, list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        new_simulation(ARRAYS, plain_workload(**arrays), 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("circumstances", "says"), BAD_CIRCUMSTANCES)
def test_circumstances_that_do_not_fit_are_refused_in_one_line(circumstances: Circumstances, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        new_simulation(ARRAYS, plain_workload(), 10, circumstances)


def test_a_brain_of_the_wrong_shape_is_refused_before_compiled_code_reads_beyond_it() -> None:
    base, linear = np.array([BASE, BASE]), np.zeros((2, candidates.WIDTH))
    with pytest.raises(ValueError, match="parameters"):
        rule_brain(ARRAYS, rules.PRICED, placement.LEAST_LOADED, np.zeros(8))
    with pytest.raises(ValueError, match="parameters"):
        learned_brain(ARRAYS, base[0], linear, np.zeros(0), np.zeros(0), np.zeros((2, 0)))
    with pytest.raises(ValueError, match="hidden"):
        learned_brain(ARRAYS, base, linear, np.zeros(3), np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="linear"):
        learned_brain(ARRAYS, base, np.zeros((2, 3)), np.zeros(0), np.zeros(0), np.zeros((2, 0)))
    with pytest.raises(ValueError, match="out"):
        learned_brain(ARRAYS, base, linear, np.zeros(0), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("index", range(6))
def test_a_network_of_the_wrong_shape_is_refused(index: int) -> None:
    sizes = [6 * 8, 8, 64, 8, 24, 3]
    sizes[index] += 1
    layers = tuple(np.zeros(size) for size in sizes)
    with pytest.raises(ValueError, match="layer"):
        simulate.paper_brain(ARRAYS, layers)  # type: ignore[arg-type]  # six of them, to mypy any number


@pytest.mark.parametrize(
    "module", [simulate, kernel, engines, blend, candidates, placement, rules, formula, paper, scorer]
)
def test_modules_hold_nothing_that_could_change(module: ModuleType) -> None:
    """A list, dict or filled array at module level would outlive a run."""
    for name, value in vars(module).items():
        changes = isinstance(value, (list, dict, set, bytearray)) or (isinstance(value, np.ndarray) and value.size > 0)
        assert name.startswith("__") or not changes, name
