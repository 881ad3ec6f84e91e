"""Engines of one GPU in virtual time: the formula, and bounds that never come too late."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_scenarios import scenario

from bes_api.scenario import Batching
from bes_lab.engine.gpu import VirtualGPU
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import idle_latency


class Recorded:
    """A sequence that notes when what happened, on the clock of the test."""

    def __init__(self, clock: list[float], streamed: bool = False) -> None:
        self.clock = clock
        self.streamed = streamed
        self.tokens: list[tuple[float, int]] = []
        self.end: float | None = None

    def progress(self, tokens: int) -> None:
        self.tokens.append((self.clock[0], tokens))

    def finished(self) -> None:
        self.end = self.clock[0]


def run_dry(gpu: VirtualGPU, clock: list[float]) -> None:
    while (at := gpu.next_visible()) < inf:
        clock[0] = max(clock[0], at)
        gpu.advance(clock[0])


@pytest.mark.parametrize("batching", list(Batching))
@pytest.mark.parametrize("engine", [0, 1])
def test_an_idle_engine_takes_what_the_formula_says(batching: Batching, engine: int) -> None:
    catalogue = catalogue_of(scenario(batching=batching))
    clock = [10.0]
    gpu, request = VirtualGPU(catalogue, 0), Recorded(clock)
    gpu.submit(engine, 10.0, 128, 16, request)
    run_dry(gpu, clock)
    assert request.end == pytest.approx(10.0 + idle_latency(catalogue, engine, 128, 16), abs=1e-9)


def test_two_busy_engines_of_a_time_sliced_gpu_take_turns() -> None:
    """Both have one sequence; while both run each has half the GPU, then the larger one has all of it."""
    catalogue = catalogue_of(scenario(interference=1.0))
    small, large = (idle_latency(catalogue, engine, 128, 16) for engine in (0, 1))
    clock = [0.0]
    gpu, one, other = VirtualGPU(catalogue, 0), Recorded(clock), Recorded(clock)
    gpu.submit(0, 0.0, 128, 16, one)
    gpu.submit(1, 0.0, 128, 16, other)
    run_dry(gpu, clock)
    assert one.end == pytest.approx(2 * small, abs=1e-9)
    assert other.end == pytest.approx(small + large, abs=1e-9)


def test_a_streamed_sequence_shows_every_token_at_its_own_instant() -> None:
    catalogue = catalogue_of(scenario())
    clock = [0.0]
    gpu, request = VirtualGPU(catalogue, 0), Recorded(clock, streamed=True)
    gpu.submit(1, 0.0, 128, 16, request)
    run_dry(gpu, clock)
    assert [count for _, count in request.tokens] == list(range(1, 16))
    assert request.tokens[0][0] == pytest.approx(idle_latency(catalogue, 1, 128, 1), abs=1e-9)
    assert request.end == pytest.approx(idle_latency(catalogue, 1, 128, 16), abs=1e-9)


def test_a_cancelled_sequence_leaves_and_is_never_announced() -> None:
    catalogue = catalogue_of(scenario())
    clock = [0.0]
    gpu, gone, stays = VirtualGPU(catalogue, 0), Recorded(clock), Recorded(clock)
    slot = gpu.submit(1, 0.0, 128, 500, gone)
    gpu.submit(1, 0.0, 128, 16, stays)
    gpu.advance(0.2)
    assert slot is not None
    gpu.cancel(1, slot, 0.2)
    clock[0] = 0.2
    run_dry(gpu, clock)
    assert gone.end is None
    assert stays.end is not None
    assert stays.end < 0.3
    assert (gpu.running(1), gpu.waiting(1), gpu.kv_used(1)) == (0, 0, 0)


def test_a_full_gpu_says_so_and_recovers() -> None:
    catalogue = catalogue_of(scenario())
    clock = [0.0]
    gpu = VirtualGPU(catalogue, 0, capacity=2)
    assert gpu.submit(0, 0.0, 8, 2, Recorded(clock)) is not None
    assert gpu.submit(1, 0.0, 8, 2, Recorded(clock)) is not None
    assert gpu.submit(0, 0.0, 8, 2, Recorded(clock)) is None
    run_dry(gpu, clock)
    assert gpu.submit(0, clock[0], 8, 2, Recorded(clock)) is not None


ARRIVALS = st.lists(
    st.tuples(
        st.floats(0, 0.5),  # instant
        st.integers(0, 1),  # engine
        st.integers(1, 400),  # prompt
        st.integers(1, 30),  # output
        st.booleans(),  # streamed
        st.one_of(st.none(), st.floats(0.001, 0.3)),  # cancelled after
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(list(Batching)))
def test_sleeping_until_the_next_visible_instant_changes_nothing(
    arrivals: list[tuple[float, int, int, int, bool, float | None]], interference: float, batching: Batching
) -> None:
    """A process that wakes only at visible instants announces the same as one that looks all the time."""
    catalogue = catalogue_of(scenario(interference=interference, batching=batching))

    def run(lazy: bool) -> list[tuple[float | None, list[tuple[float, int]]]]:
        clock = [0.0]
        gpu = VirtualGPU(catalogue, 0)
        requests = [Recorded(clock, streamed=streamed) for *_, streamed, _ in arrivals]
        events = [(instant, index, False) for index, (instant, *_) in enumerate(arrivals)]
        events += [(a[0] + a[5], index, True) for index, a in enumerate(arrivals) if a[5] is not None]
        slots: dict[int, int] = {}

        def advance(until: float) -> None:
            while (at := gpu.next_visible() if lazy else gpu._state.next[0]) <= until:
                clock[0] = max(clock[0], at)
                gpu.advance(clock[0])
            clock[0] = max(clock[0], until)
            gpu.advance(clock[0])

        for instant, index, cancels in sorted(events):
            advance(instant)
            if cancels:
                if requests[index].end is None:
                    gpu.cancel(arrivals[index][1], slots[index], instant)
            else:
                _, engine, prompt, output, *_ = arrivals[index]
                slot = gpu.submit(engine, instant, prompt, output, requests[index])
                assert slot is not None
                slots[index] = slot
        advance(60.0)
        assert all(gpu.running(engine) + gpu.waiting(engine) + gpu.kv_used(engine) == 0 for engine in (0, 1))
        return [(request.end, request.tokens) for request in requests]

    assert run(lazy=True) == run(lazy=False)
