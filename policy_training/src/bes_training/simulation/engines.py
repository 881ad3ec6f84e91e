"""Iteration-level continuous batching on shared GPUs, in virtual time.

Engines form iterations (prefill first, or chunked prefill) under a batch cap and a KV-cache cap, FIFO. On a GPU with
``k`` engines at work each advances at 1 / (1 + interference * (k - 1)) of its speed: 1 / k is time-slicing. A GPU's
virtual clock runs at that speed, so an iteration's end stays fixed on it whoever comes or goes.

The emulated GPUs run this module plainly; the simulator compiles the same source. Requests are *slots*: indices into
the per-request arrays, free to be used again once they appeared in ``done``.
"""

from math import inf

from bes_router.policy.formula import decode_seconds, mixed_seconds, prefill_seconds
from bes_router.policy.layout import Catalogue
from bes_training.simulation.state import EngineState

FINISHED, ABORTED, LOST = range(3)


def stretch_of(catalogue: Catalogue, state: EngineState, gpu: int) -> float:
    """Real seconds that one second of the GPU's virtual clock takes."""
    busy = state.busy[gpu]
    return 1.0 + catalogue.interference[gpu] * (busy - 1) if busy > 1 else 1.0


def advance_clock(catalogue: Catalogue, state: EngineState, gpu: int, now: float) -> None:
    """Bring the GPU's virtual clock to the real instant ``now``; no iteration may end before it."""
    if now > state.at[gpu]:
        state.clock[gpu] += (now - state.at[gpu]) / stretch_of(catalogue, state, gpu)
        state.at[gpu] = now


def schedule(catalogue: Catalogue, state: EngineState, gpu: int) -> None:
    """Find the GPU's next iteration end and its real instant."""
    first = inf
    for place in range(catalogue.gpu_first[gpu], catalogue.gpu_first[gpu + 1]):
        due = state.due[catalogue.gpu_engine[place]]
        first = min(first, due)
    if first == inf:
        state.next[gpu] = inf
    else:
        state.next[gpu] = state.at[gpu] + max(0.0, first - state.clock[gpu]) * stretch_of(catalogue, state, gpu)


def report(state: EngineState, slot: int, how: int) -> None:
    """Put a slot on the list of those that ended in this step."""
    place = state.done_count[0]
    state.done[place] = slot
    state.done_how[place] = how
    state.done_count[0] = place + 1


def stride_of(state: EngineState) -> int:
    """Places per engine in the lists of running and prefilling slots."""
    return len(state.running) // len(state.batch)


def take_prompts(catalogue: Catalogue, state: EngineState, engine: int, now: float) -> int:
    """Move waiting prompts into the coming iteration, FIFO, as caps and token budget allow; returns their tokens.

    Prefill first: whole prompts, at least one. Chunked: the head may be taken in part and stays at the head.
    """
    model = catalogue.engine_model[engine]
    chunked = catalogue.chunked[model]
    budget = catalogue.prefill_budget[model]
    base = engine * stride_of(state)
    tokens = 0
    while state.head[engine] >= 0:
        slot = state.head[engine]
        begun = state.partial[engine]
        need = state.prompt[slot] + state.output[slot]
        if begun == 0:
            if state.abort_at[slot] <= now:
                drop_head(state, engine)
                report(state, slot, ABORTED)
                continue
            taken = state.batch[engine] + state.prefill_count[engine]
            full = taken >= catalogue.max_batch[model]
            if full or (state.kv_used[engine] + need > catalogue.kv_tokens[model] and state.kv_used[engine] > 0):
                break
        rest = state.prompt[slot] - begun
        if tokens + rest > budget:
            if not chunked:
                if tokens > 0:
                    break
            else:
                if tokens < budget:
                    if begun == 0:
                        state.kv_used[engine] += need
                    state.partial[engine] = begun + budget - tokens
                    tokens = budget
                break
        if begun == 0:
            state.kv_used[engine] += need
        state.partial[engine] = 0
        drop_head(state, engine)
        state.prefill[base + state.prefill_count[engine]] = slot
        state.prefill_count[engine] += 1
        tokens += rest
    return tokens


def drop_head(state: EngineState, engine: int) -> None:
    """Take the first waiting slot off the queue."""
    slot = state.head[engine]
    state.head[engine] = state.following[slot]
    if state.head[engine] < 0:
        state.tail[engine] = -1
    state.waiting[engine] -= 1


def begin_iteration(catalogue: Catalogue, state: EngineState, engine: int, now: float) -> None:
    """Form the engine's next iteration and set its end on the GPU's virtual clock, or leave the engine idle."""
    model = catalogue.engine_model[engine]
    gpu = catalogue.engine_gpu[engine]
    tokens = take_prompts(catalogue, state, engine, now)
    batch = state.batch[engine]
    state.decoding[engine] = 0
    if catalogue.chunked[model]:
        if tokens == 0 and batch == 0:
            state.due[engine] = inf
            return
        state.decoding[engine] = 1 if batch > 0 else 0
        seconds = mixed_seconds(catalogue, model, tokens, batch, state.context_sum[engine])
    elif tokens > 0:
        seconds = prefill_seconds(catalogue, model, tokens)
    elif batch > 0:
        state.decoding[engine] = 1
        seconds = decode_seconds(catalogue, model, batch, state.context_sum[engine])
    else:
        state.due[engine] = inf
        return
    state.due[engine] = state.clock[gpu] + seconds


def submit(catalogue: Catalogue, state: EngineState, engine: int, slot: int, now: float) -> None:
    """Queue a slot (its prompt, output and abort_at are set) at an engine; every earlier event must be processed."""
    gpu = catalogue.engine_gpu[engine]
    advance_clock(catalogue, state, gpu, now)
    state.done_count[0] = 0
    state.following[slot] = -1
    if state.tail[engine] >= 0:
        state.following[state.tail[engine]] = slot
    else:
        state.head[engine] = slot
    state.tail[engine] = slot
    state.waiting[engine] += 1
    if state.due[engine] == inf:
        begin_iteration(catalogue, state, engine, now)
        if state.due[engine] < inf:
            state.busy[gpu] += 1
        schedule(catalogue, state, gpu)


def next_event(state: EngineState, gpu: int) -> float:
    """The real instant at which an iteration ends next on a GPU; infinity while it is idle."""
    return state.next[gpu]


def retire(state: EngineState, engine: int, now: float) -> None:
    """Take finished and aborted slots out of the running batch and find when the next one ends."""
    base = engine * stride_of(state)
    iteration = state.iteration[engine]
    kept = 0
    next_end = 2**62
    next_abort = inf
    for place in range(state.batch[engine]):
        slot = state.running[base + place]
        end = state.ends[base + place]
        if end <= iteration or state.abort_at[slot] <= now:
            state.kv_used[engine] -= state.prompt[slot] + state.output[slot]
            state.context_sum[engine] -= state.prompt[slot] + state.output[slot] - (end - iteration)
            report(state, slot, FINISHED if end <= iteration else ABORTED)
        else:
            state.running[base + kept] = slot
            state.ends[base + kept] = end
            kept += 1
            next_end = min(next_end, end)
            next_abort = min(next_abort, state.abort_at[slot])
    state.batch[engine] = kept
    state.next_end[engine] = next_end
    state.next_abort[engine] = next_abort


def join_prefilled(state: EngineState, engine: int, now: float) -> None:
    """Give every prefilled prompt its first token; those that want more join the running batch."""
    base = engine * stride_of(state)
    for place in range(state.prefill_count[engine]):
        slot = state.prefill[base + place]
        state.first_at[slot] = now
        if state.first_saves[slot] and state.abort_at[slot] > now:
            state.abort_at[slot] = inf
        if state.output[slot] <= 1:
            state.kv_used[engine] -= state.prompt[slot] + state.output[slot]
            report(state, slot, FINISHED)
            continue
        at = base + state.batch[engine]
        end = state.iteration[engine] + state.output[slot] - 1
        state.running[at] = slot
        state.ends[at] = end
        state.batch[engine] += 1
        state.context_sum[engine] += state.prompt[slot] + 1
        state.next_end[engine] = min(state.next_end[engine], end)
        state.next_abort[engine] = min(state.next_abort[engine], state.abort_at[slot])
    state.prefill_count[engine] = 0


def step(catalogue: Catalogue, state: EngineState, gpu: int) -> int:
    """End the GPU's next iteration and begin the one after it; returns the engine. ``done`` lists who ended."""
    now = state.next[gpu]
    state.done_count[0] = 0
    engine = catalogue.gpu_engine[catalogue.gpu_first[gpu]]
    for place in range(catalogue.gpu_first[gpu] + 1, catalogue.gpu_first[gpu + 1]):
        other = catalogue.gpu_engine[place]
        if state.due[other] < state.due[engine]:
            engine = other
    state.clock[gpu] = state.due[engine]
    state.at[gpu] = now
    if state.decoding[engine]:
        state.iteration[engine] += 1
        state.context_sum[engine] += state.batch[engine]
        if state.iteration[engine] >= state.next_end[engine] or now >= state.next_abort[engine]:
            retire(state, engine, now)
    if state.prefill_count[engine] > 0:
        join_prefilled(state, engine, now)
    begin_iteration(catalogue, state, engine, now)
    if state.due[engine] == inf:
        state.busy[gpu] -= 1
    schedule(catalogue, state, gpu)
    return engine


def in_flight(state: EngineState, engine: int) -> int:
    """Requests at an engine: waiting, prefilling and running."""
    return state.waiting[engine] + state.prefill_count[engine] + state.batch[engine]


def clear(catalogue: Catalogue, state: EngineState, engine: int, now: float) -> None:
    """The engine dies at ``now``: everything in it is reported as lost."""
    gpu = catalogue.engine_gpu[engine]
    advance_clock(catalogue, state, gpu, now)
    base = engine * stride_of(state)
    state.done_count[0] = 0
    while state.head[engine] >= 0:
        report(state, state.head[engine], LOST)
        drop_head(state, engine)
    for place in range(state.prefill_count[engine]):
        report(state, state.prefill[base + place], LOST)
    for place in range(state.batch[engine]):
        report(state, state.running[base + place], LOST)
    state.prefill_count[engine] = 0
    state.batch[engine] = 0
    state.context_sum[engine] = 0
    state.kv_used[engine] = 0
    state.partial[engine] = 0
    state.next_end[engine] = 2**62
    state.next_abort[engine] = inf
    if state.due[engine] < inf:
        state.due[engine] = inf
        state.busy[gpu] -= 1
    schedule(catalogue, state, gpu)


def cancel(state: EngineState, engine: int, slot: int, now: float) -> None:
    """The client of a slot went away: it leaves at the engine's next iteration boundary, reported as aborted."""
    state.abort_at[slot] = now
    state.next_abort[engine] = min(state.next_abort[engine], now)
