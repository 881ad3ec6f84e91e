"""A plain event loop around the engines, and a picture of one engine's residents taken from its own lists."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from bes_api.scenario import Batching, LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_router.policy.layout import Catalogue
from bes_training.simulation import engines
from bes_training.simulation.state import EngineState, new_engine_state

DECODE_TEN = LatencyProfile(
    prefill_base_ms=20.0,
    prefill_per_token_ms=0.1,
    decode_base_ms=10.0,
    decode_per_sequence_ms=0.5,
    decode_per_context_token_ms=0.01,
)


def one_gpu(
    *latencies: LatencyProfile,
    batching: Batching = Batching.PREFILL_FIRST,
    interference: float = 0.0,
    budget: int = 4096,
    batch: int = 64,
    kv_tokens: int = 10**9,
) -> Scenario:
    """One engine per latency profile, all on one GPU; one task that never expires."""
    return Scenario(
        gpus=(ScenarioGPU(interference=interference),),
        models=tuple(
            ScenarioModel(
                name=f"model-{number}",
                latency=latency,
                batching=batching,
                prefill_token_budget=budget,
                max_batch_size=batch,
                kv_cache_tokens=kv_tokens,
                context_tokens=10**9,
                placement=(0,),
            )
            for number, latency in enumerate(latencies)
        ),
        tasks=(
            ScenarioTask(
                name="task",
                full_until_seconds=1e6,
                zero_from_seconds=1e6,
                quality={f"model-{number}": 1.0 for number in range(len(latencies))},
                prompt_tokens=128,
                output_tokens=16,
            ),
        ),
        default_task="task",
        max_in_flight=10**9,
    )


class Request(NamedTuple):
    """One request for one engine."""

    at: float
    engine: int
    prompt: int
    output: int
    abort_at: float = inf


@dataclass
class End:
    """How and when a request ended, and when its first token came."""

    how: int
    at: float
    first_at: float


def residents(state: EngineState, engine: int) -> tuple[list[int], list[int], list[int]]:
    """Slots running, slots whose prompt the current iteration completes, slots waiting (the head may be begun)."""
    base = engine * engines.stride_of(state)
    waiting, slot = [], state.head[engine]
    while slot >= 0:
        waiting.append(slot)
        slot = state.following[slot]
    running = [state.running[base + place] for place in range(state.batch[engine])]
    return running, [state.prefill[base + place] for place in range(state.prefill_count[engine])], waiting


def drive(
    catalogue: Catalogue,
    requests: Sequence[Request],
    watch: Callable[[EngineState], None] | None = None,
    deaths: Sequence[tuple[float, int]] = (),
) -> tuple[EngineState, dict[int, list[End]]]:
    """Play requests (sorted) and deaths; ``watch`` sees the state after every event. Every end of a slot is listed."""
    state = new_engine_state(catalogue, len(requests))
    ends: dict[int, list[End]] = {slot: [] for slot in range(len(requests))}

    def note(now: float) -> None:
        for place in range(state.done_count[0]):
            slot = state.done[place]
            ends[slot].append(End(state.done_how[place], now, state.first_at[slot]))
        if watch:
            watch(state)

    def run_until(instant: float) -> None:
        while (gpu := min(range(len(state.next)), key=state.next.__getitem__)) is not None:
            now = state.next[gpu]
            if now > instant or now == inf:
                return
            engines.step(catalogue, state, gpu)
            note(now)

    events = sorted([(each.at, 0, slot) for slot, each in enumerate(requests)] + [(at, 1, each) for at, each in deaths])
    for at, kind, which in events:
        run_until(at)
        if kind:
            engines.clear(catalogue, state, which, at)
        else:
            request = requests[which]
            state.prompt[which], state.output[which] = request.prompt, request.output
            state.abort_at[which] = request.abort_at
            engines.submit(catalogue, state, request.engine, which, at)
        note(at)
    run_until(inf)
    return state, ends
