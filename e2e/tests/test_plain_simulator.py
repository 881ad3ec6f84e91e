"""The plain simulator of the benchmark and the project's own engines must tell the same story."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from bes_api.errors import ScenarioError
from bes_api.presets import LATENCY_PRESETS
from bes_api.scenario import Batching, OnMiss, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_lab.bench import simulator as bench
from bes_lab.bench.policies import RULE
from bes_router.policy import placement, rules
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.load import load_policy
from bes_training.simulation import engines
from bes_training.simulation.plain import PlainSimulator, Request, simulate_plainly
from bes_training.simulation.simulate import compiled_catalogue, simulate
from bes_training.simulation.state import new_engine_state

SIZES = ("opt-125m", "opt-1.3b", "opt-6.7b")


def scenario(batching: Batching, interference: float, max_batch: int = 6, kv_tokens: int = 900) -> Scenario:
    """Two GPUs with caps so small that every one of them binds."""
    return Scenario(
        gpus=tuple(ScenarioGPU(interference=interference) for _ in range(2)),
        models=tuple(
            ScenarioModel(
                name=size,
                latency=LATENCY_PRESETS[size].profile.latency,
                batching=batching,
                prefill_token_budget=200,
                max_batch_size=max_batch,
                kv_cache_tokens=kv_tokens,
                context_tokens=2048,
                placement=(0, 1),
            )
            for size in SIZES
        ),
        tasks=(
            ScenarioTask(
                name="lambada",
                full_until_seconds=0.6,
                zero_from_seconds=0.6,
                quality=dict(zip(SIZES, (0.379, 0.579, 0.677), strict=True)),
                prompt_tokens=128,
                output_tokens=16,
            ),
        ),
        default_task="lambada",
    )


class Priced:
    """The priced rule with its placement, as the router would call it."""

    name = "Priced"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._parameters = [rules.NO_GATE, 0.1, 0.1, 0.5, 0.5, 1.0, *[rules.NO_GATE] * len(catalogue.context)]

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        return rules.choose_by_rule(
            self._catalogue, view, request, now, rules.PRICED, placement.LEAST_LOADED, self._parameters
        )


def arrivals(count: int, rate: float, seed: int) -> list[Request]:
    generator = random.Random(seed)
    now = 0.0
    requests = []
    for _ in range(count):
        now += generator.expovariate(rate)
        requests.append(Request(now, 0, generator.choice((40, 128, 350)), generator.choice((1, 2, 16, 40))))
    return requests


def replayed_by_engines(catalogue: Catalogue, requests: Sequence[Request]) -> list[tuple[float, float]]:
    """First token and end of the same requests, sent to the same engines of the project's own simulator."""
    state = new_engine_state(catalogue, len(requests))
    finished = [0.0] * len(requests)

    def until(limit: float) -> None:
        while True:
            gpu = min(range(len(catalogue.interference)), key=lambda each: engines.next_event(state, each))
            now = engines.next_event(state, gpu)
            if now > limit or now == float("inf"):
                return
            engines.step(catalogue, state, gpu)
            for place in range(state.done_count[0]):
                finished[state.done[place]] = now

    for slot, request in enumerate(requests):
        until(request.arrived)
        state.prompt[slot] = request.prompt
        state.output[slot] = request.output
        engines.submit(catalogue, state, request.engine, slot, request.arrived)
    until(float("inf"))
    return list(zip(state.first_at, finished, strict=True))


@pytest.mark.parametrize("batching", list(Batching))
@pytest.mark.parametrize("interference", [0.0, 0.4, 1.0])
def test_every_request_ends_when_the_engines_say_it_does(batching: Batching, interference: float) -> None:
    whole = scenario(batching, interference)
    catalogue = catalogue_of(whole)
    requests = arrivals(1500, rate=120.0, seed=7)
    PlainSimulator(catalogue, Priced(catalogue), max_in_flight=10_000).run(requests)
    assert {request.engine for request in requests} == set(range(len(catalogue.engine_model)))
    expected = replayed_by_engines(catalogue, requests)
    assert [request.first_token for request in requests] == pytest.approx([first for first, _ in expected], abs=1e-9)
    assert [request.finished for request in requests] == pytest.approx([end for _, end in expected], abs=1e-9)


def test_an_idle_engine_takes_exactly_what_the_formula_says() -> None:
    catalogue = catalogue_of(scenario(Batching.PREFILL_FIRST, 1.0))
    request = Request(1.0, 0, 128, 3)
    PlainSimulator(catalogue, Priced(catalogue), max_in_flight=1).run([request])
    model = catalogue.engine_model[request.engine]
    steps = [
        catalogue.decode_base[model] + catalogue.decode_sequence[model] + catalogue.decode_context[model] * context
        for context in (129, 130)
    ]
    prefill = catalogue.prefill_base[model] + catalogue.prefill_token[model] * 128
    assert request.finished - request.arrived == pytest.approx(prefill + sum(steps), abs=1e-12)


def test_a_router_that_is_full_refuses_the_next_request() -> None:
    catalogue = catalogue_of(scenario(Batching.PREFILL_FIRST, 0.0))
    requests = [Request(0.001 * index, 0, 128, 16) for index in range(5)]
    PlainSimulator(catalogue, Priced(catalogue), max_in_flight=3).run(requests)
    assert [request.engine >= 0 for request in requests] == [True, True, True, False, False]


@pytest.mark.slow  # compiles the simulator where its cache is cold
@pytest.mark.parametrize("batching", list(Batching))
def test_the_compiled_simulator_makes_the_same_decisions_and_ends_every_request_at_the_same_instant(
    batching: Batching,
) -> None:
    whole = scenario(batching, 1.0, max_batch=64, kv_tokens=60_000).model_copy(update={"max_in_flight": 60})
    catalogue = compiled_catalogue(whole.model_dump_json())
    workload = bench.poisson(whole, 150.0, 3000, seed=3)
    simulator, requests = bench.plain_run(whole, workload)
    simulator.run(requests)
    outcomes = simulate(whole, workload, bench.the_rule(catalogue))
    assert [request.engine for request in requests] == outcomes.engine.tolist()
    assert {-1, 2, 3, 4, 5} <= set(outcomes.engine.tolist())  # two models and refusals: decisions that differ
    latency = [request.finished - request.arrived for request in requests]
    assert latency == pytest.approx(outcomes.latency.tolist(), abs=1e-9, nan_ok=True)
    plainly = simulate_plainly(whole, workload, load_policy(RULE, whole, catalogue_of(whole)))
    for name, column in outcomes._asdict().items():
        if name == "model":
            assert (plainly.model == np.where(outcomes.engine < 0, -1, outcomes.model)).all()
        else:
            assert getattr(plainly, name) == pytest.approx(column, abs=1e-9, nan_ok=True), name


def test_a_task_that_aborts_is_refused_where_it_could_not_be_simulated() -> None:
    whole = scenario(Batching.PREFILL_FIRST, 1.0)
    aborting = whole.model_copy(update={"tasks": (whole.tasks[0].model_copy(update={"on_miss": OnMiss.ABORT}),)})
    with pytest.raises(ScenarioError, match="onMiss: Abort"):
        simulate_plainly(aborting, bench.poisson(whole, 10.0, 5, seed=1), Priced(catalogue_of(whole)))
