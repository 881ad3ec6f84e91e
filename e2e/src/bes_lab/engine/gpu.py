"""One GPU's engines in virtual time: the simulator's own functions, driven by instants that the caller passes in.

Every event up to an instant is processed before something happens at that instant, so lateness of the process never
adds up. Nothing here knows sockets or clocks.
"""

from math import inf
from typing import Protocol

from bes_router.policy.formula import decode_seconds
from bes_router.policy.layout import Catalogue
from bes_training.simulation.engines import FINISHED, cancel, next_event, step, stride_of, submit
from bes_training.simulation.state import new_engine_state

CAPACITY = 8192


class Sequence(Protocol):
    """One prompt's tokens, wherever they go."""

    @property
    def streamed(self) -> bool:
        """Whether ``progress`` must be told of every token."""
        ...

    def progress(self, tokens: int) -> None:
        """So many tokens exist by now; only told to streamed sequences, and never a number twice."""
        ...

    def finished(self) -> None:
        """All tokens exist."""
        ...


class VirtualGPU:
    """The engines that ``catalogue`` places on GPU ``gpu``. Instants never go backwards."""

    def __init__(self, catalogue: Catalogue, gpu: int, capacity: int = CAPACITY) -> None:
        self._nominal = _engine_by_engine(catalogue)
        self._catalogue = catalogue = _engine_by_engine(catalogue)
        self._gpu = gpu
        self._state = new_engine_state(catalogue, capacity)
        self._stride = stride_of(self._state)
        self._free = list(range(capacity))
        self._sequences: list[Sequence | None] = [None] * capacity
        self._streams = [0] * len(catalogue.engine_model)
        self._emitted = [0] * capacity
        self.engines = tuple(
            catalogue.gpu_engine[place] for place in range(catalogue.gpu_first[gpu], catalogue.gpu_first[gpu + 1])
        )

    def submit(self, engine: int, now: float, prompt_tokens: int, output_tokens: int, sequence: Sequence) -> int | None:
        """Queue a sequence at ``engine`` after ``advance(now)``; its slot, or None where there is no room."""
        if not self._free:
            return None
        slot = self._free.pop()
        state = self._state
        state.prompt[slot] = prompt_tokens
        state.output[slot] = output_tokens
        state.abort_at[slot] = inf
        self._sequences[slot] = sequence
        self._emitted[slot] = 0
        self._streams[engine] += sequence.streamed
        submit(self._catalogue, state, engine, slot, now)
        self._collect(engine)
        return slot

    def slow_down(self, engine: int, factor: float) -> None:
        """From the next iteration on everything takes ``engine`` so many times as long as its profile says."""
        for name in _TIMES:
            times, nominal = getattr(self._catalogue, name), getattr(self._nominal, name)
            times[engine] = nominal[engine] * factor

    def cancel(self, engine: int, slot: int, now: float) -> None:
        """Nobody wants this slot any more: it leaves at the engine's next iteration boundary, unannounced."""
        self._streams[engine] -= self._announced(slot).streamed
        self._sequences[slot] = _GONE
        cancel(self._state, engine, slot, now)

    def advance(self, now: float) -> None:
        """Process every event up to ``now`` in order."""
        state, gpu = self._state, self._gpu
        while next_event(state, gpu) <= now:
            engine = step(self._catalogue, state, gpu)
            if self._streams[engine]:
                self._stream(engine)
            if state.done_count[0]:
                self._collect(engine)

    def next_visible(self) -> float:
        """An instant before which no client can notice anything: exact for streams, a lower bound for completions."""
        if next_event(self._state, self._gpu) == inf:
            return inf
        return min(self._visible_at(engine) for engine in self.engines)

    def running(self, engine: int) -> int:
        """Sequences in the engine's current iteration."""
        return self._state.batch[engine] + self._state.prefill_count[engine]

    def waiting(self, engine: int) -> int:
        """Sequences in the engine's queue."""
        return self._state.waiting[engine]

    def kv_used(self, engine: int) -> int:
        """Tokens of KV cache that are reserved."""
        return self._state.kv_used[engine]

    def _announced(self, slot: int) -> Sequence:
        sequence = self._sequences[slot]
        assert sequence is not None  # noqa: S101 - a slot in use has its sequence
        return sequence

    def _stream(self, engine: int) -> None:
        state, base = self._state, engine * self._stride
        for place in range(base, base + state.batch[engine]):
            slot = state.running[place]
            sequence = self._announced(slot)
            if sequence.streamed:
                tokens = state.output[slot] - (state.ends[place] - state.iteration[engine])
                if tokens > self._emitted[slot]:
                    self._emitted[slot] = tokens
                    sequence.progress(tokens)

    def _collect(self, engine: int) -> None:
        state = self._state
        ended = [(state.done[place], state.done_how[place]) for place in range(state.done_count[0])]
        state.done_count[0] = 0
        for slot, how in ended:
            sequence = self._announced(slot)
            self._sequences[slot] = None
            self._free.append(slot)
            if how == FINISHED and sequence is not _GONE:
                self._streams[engine] -= sequence.streamed
                sequence.finished()

    def _visible_at(self, engine: int) -> float:
        """Earliest real instant at which ``engine`` may end a sequence (or a token, if it streams)."""
        state, catalogue = self._state, self._catalogue
        due = state.due[engine]
        if due == inf:
            return inf
        model = catalogue.engine_model[engine]
        # The next iteration end is certain; what lies behind it comes soonest if all neighbours fall idle then.
        ends = state.next[self._gpu] + (due - min(state.due[other] for other in self.engines))
        if self._streams[engine]:
            return ends
        bounds = []
        if state.batch[engine]:
            more = state.next_end[engine] - state.iteration[engine] - state.decoding[engine]
            undisturbed = state.next_abort[engine] == inf
            batch = state.batch[engine] if undisturbed else 1
            context = state.context_sum[engine] if undisturbed else 0
            bounds.append(max(0, more) * decode_seconds(catalogue, model, batch, context))
        base = engine * self._stride
        if state.prefill_count[engine]:
            fewest = min(state.output[state.prefill[base + place]] for place in range(state.prefill_count[engine]))
            bounds.append((fewest - 1) * decode_seconds(catalogue, model, 1, 0))
        if state.waiting[engine]:
            bounds.append(0.0 if state.partial[engine] else catalogue.prefill_base[model])
        return ends + min(bounds, default=0.0)


_TIMES = ("prefill_base", "prefill_token", "decode_base", "decode_sequence", "decode_context")
_PER_MODEL = (*_TIMES, "chunked", "prefill_budget", "max_batch", "kv_tokens", "context")


def _engine_by_engine(catalogue: Catalogue) -> Catalogue:
    """The same with a row per engine instead of one per model, so that one engine can be slowed down alone."""
    rows = {name: [getattr(catalogue, name)[model] for model in catalogue.engine_model] for name in _PER_MODEL}
    return catalogue._replace(engine_model=list(range(len(catalogue.engine_model))), **rows)


class _Gone:
    """Stands for a sequence whose client has left."""

    streamed = False

    def progress(self, tokens: int) -> None:
        """Nobody listens."""

    def finished(self) -> None:
        """Nobody listens."""


_GONE = _Gone()
