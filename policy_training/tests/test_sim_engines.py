"""The engines, stepped plainly: latency, caps and budgets at every step, interference, aborts, deaths."""

from math import inf
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from policy_scenarios import random_scenario
from sim_engines import DECODE_TEN, End, Request, drive, one_gpu, residents

from bes_api.scenario import Batching
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import idle_latency
from bes_router.policy.layout import Catalogue
from bes_training.simulation import engines
from bes_training.simulation.engines import ABORTED, FINISHED, LOST
from bes_training.simulation.state import EngineState, new_engine_state

BATCHINGS = pytest.mark.parametrize("batching", list(Batching))
TWICE = (DECODE_TEN, DECODE_TEN)


def only(ends: list[End]) -> End:
    assert len(ends) == 1, f"ended {len(ends)} times"
    return ends[0]


@BATCHINGS
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), prompt=st.integers(1, 64), output=st.integers(1, 60))
@example(seed=0, prompt=1, output=1)
def test_a_request_on_an_idle_engine_takes_what_the_formula_says(
    batching: Batching, seed: int, prompt: int, output: int
) -> None:
    """The smallest random budget is 64: such a prompt fits one iteration."""
    scenario = random_scenario(Random(seed))
    model = scenario.models[0].model_copy(update={"batching": batching})
    catalogue = catalogue_of(scenario.model_copy(update={"models": (model, *scenario.models[1:])}))
    _, ends = drive(catalogue, [Request(3.0, 0, prompt, output)])
    expected = idle_latency(catalogue, 0, prompt, output)
    assert only(ends[0]).at - 3.0 == pytest.approx(expected, abs=1e-9)
    assert ends[0][0].first_at - 3.0 == pytest.approx(idle_latency(catalogue, 0, prompt, 1), abs=1e-9)


class Caps:
    """Checks an engine's books against its lists after every event."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.most = 0

    def __call__(self, state: EngineState) -> None:
        for engine, model in enumerate(self.catalogue.engine_model):
            running, prefilling, waiting = residents(state, engine)
            begun = waiting[:1] if state.partial[engine] > 0 else []
            inside = [*running, *prefilling, *begun]
            assert len(set(running + prefilling + waiting)) == engines.in_flight(state, engine)
            assert len(inside) <= self.catalogue.max_batch[model]
            held = sum(state.prompt[slot] + state.output[slot] for slot in inside)
            assert state.kv_used[engine] == held
            assert held <= self.catalogue.kv_tokens[model] or len(inside) == 1, "one too large for the cache runs alone"
            base = engine * engines.stride_of(state)
            context = sum(
                state.prompt[slot] + state.output[slot] - (state.ends[base + place] - state.iteration[engine])
                for place, slot in enumerate(running)
            )
            assert state.context_sum[engine] == context
            if self.catalogue.chunked[model]:
                assert not begun or state.partial[engine] < state.prompt[begun[0]]
            elif len(prefilling) > 1:
                assert sum(state.prompt[slot] for slot in prefilling) <= self.catalogue.prefill_budget[model]
            assert (state.due[engine] < inf) == bool(inside), "at work exactly while something is inside"
            self.most = max(self.most, len(inside))
        for gpu in range(len(state.busy)):
            on = range(self.catalogue.gpu_first[gpu], self.catalogue.gpu_first[gpu + 1])
            assert state.busy[gpu] == sum(state.due[self.catalogue.gpu_engine[place]] < inf for place in on)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_caps_and_budgets_hold_at_every_step_and_everybody_ends_once(seed: int) -> None:
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    engine_count = len(catalogue.engine_model)
    pace = random.choice((0.0005, 0.01, 0.1))
    at, requests = 0.0, []
    for _ in range(random.randint(1, 60)):
        at += random.expovariate(1 / pace)
        expires = at + random.choice((inf, random.uniform(0, 0.5)))
        request = Request(at, random.randrange(engine_count), random.randint(1, 400), random.randint(1, 30), expires)
        requests.append(request)
    deaths = [(random.uniform(0, at), random.randrange(engine_count)) for _ in range(random.choice((0, 0, 3)))]
    state, ends = drive(catalogue, requests, Caps(catalogue), deaths)
    for slot, request in enumerate(requests):
        end = only(ends[slot])
        assert end.how in ((FINISHED, ABORTED, LOST) if deaths else (FINISHED, ABORTED))
        assert end.how != ABORTED or end.at >= request.abort_at
        assert end.how != FINISHED or request.at < end.first_at <= end.at
    for engine in range(engine_count):
        left = (engines.in_flight(state, engine), state.kv_used[engine], state.context_sum[engine])
        assert left == (0, 0, 0)
    assert set(state.busy) == {0}
    assert set(state.next) == {inf}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_first_tokens_come_in_the_order_of_arrival(seed: int) -> None:
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    requests = [Request(0.001 * number, 0, random.randint(1, 300), random.randint(1, 20)) for number in range(30)]
    _, ends = drive(catalogue, requests)
    firsts = [only(ends[slot]).first_at for slot in range(30)]
    assert firsts == sorted(firsts)


def test_a_batch_shares_its_iterations() -> None:
    """Two prompts that arrive while a third is prefilled share one prefill and then every decode step."""
    catalogue = catalogue_of(one_gpu(DECODE_TEN))
    _, ends = drive(catalogue, [Request(0.0, 0, 100, 1), Request(0.001, 0, 50, 2), Request(0.002, 0, 70, 2)])
    first, both = 0.020 + 0.010, 0.020 + 0.012
    step = 0.010 + 2 * 0.0005 + (51 + 71) * 0.00001
    assert only(ends[0]).at == pytest.approx(first)
    assert [only(ends[slot]).first_at for slot in (1, 2)] == pytest.approx([first + both] * 2)
    assert [only(ends[slot]).at for slot in (1, 2)] == pytest.approx([first + both + step] * 2)


def test_prefill_first_stops_decoding_while_chunked_goes_on() -> None:
    """A new prompt arrives during a decode step of another request."""
    requests = [Request(0.0, 0, 100, 4), Request(0.0301, 0, 100, 1)]
    ends = {batching: drive(catalogue_of(one_gpu(DECODE_TEN, batching=batching)), requests)[1] for batching in Batching}
    steps = [0.010 + 0.0005 + 0.00001 * (100 + k) for k in (1, 2, 3)]
    stalled = 0.030 + steps[0] + 0.030 + steps[1] + steps[2]
    mixed = 0.030 + steps[0] + (0.020 + 0.010 + 0.0005 + 0.00001 * 102) + steps[2]
    assert only(ends[Batching.PREFILL_FIRST][0]).at == pytest.approx(stalled)
    assert only(ends[Batching.CHUNKED_PREFILL][0]).at == pytest.approx(mixed)


def test_prefill_first_holds_its_budget_but_takes_one_long_prompt_alone() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, budget=500))
    _, ends = drive(catalogue, [Request(0.0, 0, 1, 1)] + [Request(0.001, 0, each, 1) for each in (300, 300, 900)])
    start = 0.0201
    assert only(ends[1]).at == pytest.approx(start + 0.050)
    assert only(ends[2]).at == pytest.approx(start + 2 * 0.050)
    assert only(ends[3]).at == pytest.approx(start + 2 * 0.050 + 0.110)


def test_chunked_prefill_takes_a_long_prompt_in_parts_and_fills_the_rest_of_its_budget() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, batching=Batching.CHUNKED_PREFILL, budget=500))
    parts: list[int] = []
    requests = [Request(0.0, 0, 1200, 1), Request(0.001, 0, 200, 1), Request(0.002, 0, 200, 1)]
    _, ends = drive(catalogue, requests, lambda state: parts.append(state.partial[0]))
    full, last = 0.020 + 0.050, 0.020 + 0.010
    assert only(ends[0]).at == pytest.approx(3 * full), "500 + 500 + 200"
    assert only(ends[1]).at == pytest.approx(3 * full), "200 of the third iteration's rest"
    assert only(ends[2]).at == pytest.approx(3 * full + last), "100 went along before, 100 are left"
    assert parts == [500, 500, 500, 1000, 100, 0, 0]


@pytest.mark.parametrize(("interference", "stretch"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_two_busy_engines_run_slower_by_their_gpus_interference(interference: float, stretch: float) -> None:
    catalogue = catalogue_of(one_gpu(*TWICE, interference=interference))
    alone = idle_latency(catalogue, 0, 100, 10)
    _, ends = drive(catalogue, [Request(0.0, 0, 100, 10), Request(0.0, 1, 100, 10)])
    assert [only(ends[slot]).at for slot in (0, 1)] == pytest.approx([stretch * alone] * 2)


def test_a_neighbour_costs_only_the_time_in_which_it_is_busy() -> None:
    catalogue = catalogue_of(one_gpu(*TWICE, interference=1.0))
    long, short = idle_latency(catalogue, 0, 100, 10), idle_latency(catalogue, 0, 50, 1)
    _, ends = drive(catalogue, [Request(0.0, 0, 100, 10), Request(0.01, 1, 50, 1)])
    assert only(ends[1]).at == pytest.approx(0.01 + 2 * short)
    assert only(ends[0]).at == pytest.approx(long + short)


def test_engines_on_other_gpus_disturb_nobody() -> None:
    scenario = one_gpu(*TWICE, interference=1.0)
    apart = scenario.model_copy(
        update={
            "gpus": scenario.gpus * 2,
            "models": (scenario.models[0], scenario.models[1].model_copy(update={"placement": (1,)})),
        }
    )
    catalogue = catalogue_of(apart)
    _, ends = drive(catalogue, [Request(0.0, 0, 100, 10), Request(0.0, 1, 100, 10)])
    assert only(ends[0]).at == pytest.approx(idle_latency(catalogue, 0, 100, 10))


def test_a_waiting_request_past_its_deadline_never_enters() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, batch=1))
    _, ends = drive(catalogue, [Request(0.0, 0, 100, 5), Request(0.001, 0, 100, 5, abort_at=0.04)])
    assert (only(ends[1]).how, only(ends[1]).first_at) == (ABORTED, inf)
    assert only(ends[1]).at == pytest.approx(idle_latency(catalogue, 0, 100, 2)), (
        "the first step after 40 ms ends there"
    )
    assert only(ends[0]).at == pytest.approx(idle_latency(catalogue, 0, 100, 5)), "nobody else noticed"


@BATCHINGS
def test_a_running_request_is_aborted_at_the_next_step_and_gives_its_tokens_back(batching: Batching) -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, batching=batching))
    used: list[int] = []
    _, ends = drive(
        catalogue,
        [Request(0.0, 0, 100, 50, abort_at=0.055), Request(0.0001, 0, 100, 9)],
        lambda state: used.append(state.kv_used[0]),
    )
    end = only(ends[0])
    assert end.how == ABORTED
    assert 0.055 <= end.at < 0.055 + 0.04
    assert only(ends[1]).how == FINISHED
    assert used[-1] == 0
    assert 109 in used, "the other one goes on alone"


def test_a_dying_engine_loses_everything_and_serves_again_afterwards() -> None:
    catalogue = catalogue_of(one_gpu(*TWICE, interference=1.0, batch=2))
    requests = [Request(0.0, 0, 100, 20)] * 4 + [Request(0.0, 1, 100, 20), Request(0.5, 0, 100, 20)]
    _, ends = drive(catalogue, requests, deaths=[(0.1, 0)])
    assert [only(ends[slot]).how for slot in range(6)] == [LOST] * 4 + [FINISHED] * 2
    assert {only(ends[slot]).at for slot in range(4)} == {0.1}
    alone = idle_latency(catalogue, 0, 100, 20)
    assert only(ends[4]).at == pytest.approx(0.1 + alone - 0.05), "half speed until the neighbour died"
    assert only(ends[5]).at == pytest.approx(0.5 + alone)


def test_a_cancelled_request_leaves_at_the_next_boundary() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN))
    state = new_engine_state(catalogue, 1)
    state.prompt[0], state.output[0] = 100, 50
    engines.submit(catalogue, state, 0, 0, 0.0)
    for _ in range(3):
        engines.step(catalogue, state, 0)
    now = engines.next_event(state, 0) - 0.001
    engines.cancel(state, 0, 0, now)
    engines.step(catalogue, state, 0)
    assert (state.done_count[0], state.done_how[0]) == (1, ABORTED)
    assert (engines.in_flight(state, 0), state.kv_used[0], state.context_sum[0]) == (0, 0, 0)
    assert engines.next_event(state, 0) == inf


def test_an_engine_at_its_batch_cap_makes_the_next_one_wait() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, batch=3))
    caps = Caps(catalogue)
    _, ends = drive(catalogue, [Request(0.0, 0, 10, 5)] * 7, caps)
    assert caps.most == 3
    finishes = sorted(only(ends[slot]).at for slot in range(7))
    assert len({round(each, 6) for each in finishes}) >= 3


def test_a_full_cache_makes_the_next_one_wait() -> None:
    catalogue = catalogue_of(one_gpu(DECODE_TEN, kv_tokens=250))
    caps = Caps(catalogue)
    drive(catalogue, [Request(0.0, 0, 90, 10)] * 6, caps)
    assert caps.most == 2
