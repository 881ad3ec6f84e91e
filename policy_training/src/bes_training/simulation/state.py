"""The arrays of `engines`: for the emulated GPUs as lists, for the simulator as numpy arrays of the same shapes."""

from math import inf
from typing import NamedTuple

from bes_router.policy.layout import Catalogue, MutableFloats, MutableInts

NEVER = 2**62


class EngineState(NamedTuple):
    """E engines, G GPUs, N slots (requests), S = largest batch cap + 1 places per engine."""

    prompt: MutableInts  # [N] tokens
    output: MutableInts  # [N] tokens
    abort_at: MutableFloats  # [N] instant from which the request is aborted; infinity: never
    first_saves: MutableInts  # [N] 1 = the first token is what the deadline is about: with it no abort is due any more
    first_at: MutableFloats  # [N] instant of the first token
    following: MutableInts  # [N] the next slot in the same waiting queue, or -1
    head: MutableInts  # [E] first waiting slot, or -1
    tail: MutableInts  # [E]
    waiting: MutableInts  # [E]
    partial: MutableInts  # [E] prompt tokens of the head already processed (chunked prefill)
    batch: MutableInts  # [E] sequences decoding
    context_sum: MutableInts  # [E] their tokens
    kv_used: MutableInts  # [E] tokens reserved
    iteration: MutableInts  # [E] decode iterations so far
    next_end: MutableInts  # [E] iteration at which the first running sequence ends
    next_abort: MutableFloats  # [E] instant at which the first running sequence is to be aborted
    decoding: MutableInts  # [E] 1 = the current iteration decodes
    due: MutableFloats  # [E] end of the current iteration on its GPU's virtual clock; infinity: idle
    prefill_count: MutableInts  # [E]
    prefill: MutableInts  # [E * S] slots whose prompt the current iteration completes
    running: MutableInts  # [E * S] slots
    ends: MutableInts  # [E * S] iteration at which the slot beside it ends
    clock: MutableFloats  # [G] virtual
    at: MutableFloats  # [G] the real instant at which ``clock`` is true
    busy: MutableInts  # [G] engines at work
    next: MutableFloats  # [G] real instant of the next iteration end
    done: MutableInts  # [N] slots that ended in the last step
    done_how: MutableInts  # [N] FINISHED, ABORTED or LOST
    done_count: MutableInts  # [1]


def new_engine_state(catalogue: Catalogue, capacity: int) -> EngineState:
    """Idle engines with room for ``capacity`` requests at once, as lists."""
    engines, gpus = len(catalogue.engine_model), len(catalogue.interference)
    places = engines * (max(catalogue.max_batch) + 1)
    return EngineState(
        prompt=[0] * capacity,
        output=[0] * capacity,
        abort_at=[inf] * capacity,
        first_saves=[0] * capacity,
        first_at=[inf] * capacity,
        following=[-1] * capacity,
        head=[-1] * engines,
        tail=[-1] * engines,
        waiting=[0] * engines,
        partial=[0] * engines,
        batch=[0] * engines,
        context_sum=[0] * engines,
        kv_used=[0] * engines,
        iteration=[0] * engines,
        next_end=[NEVER] * engines,
        next_abort=[inf] * engines,
        decoding=[0] * engines,
        due=[inf] * engines,
        prefill_count=[0] * engines,
        prefill=[0] * places,
        running=[0] * places,
        ends=[0] * places,
        clock=[0.0] * gpus,
        at=[0.0] * gpus,
        busy=[0] * gpus,
        next=[inf] * gpus,
        done=[0] * capacity,
        done_how=[0] * capacity,
        done_count=[0],
    )
