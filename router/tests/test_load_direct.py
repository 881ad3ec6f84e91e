"""Figures from the engines' own metrics pages."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_rig import Seen, target
from router_rig import FIGURES, PATIENCE_SECONDS, Engine, complete, live, rig

from bes_api.router_config import DirectLoad
from bes_router.load.direct import DirectSource, requests_in_flight, sum_of_series

NAMES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")
GAUGES = tuple(name.decode() for name in NAMES)


def test_figures_are_summed_over_names_and_series() -> None:
    assert requests_in_flight(FIGURES % (3, 4), NAMES) == 7
    assert requests_in_flight(b'a{x="}"} 1\na{x="2"} 2.5\na_total 9\nb 4 1700000000\n', (b"a", b"b")) == 7.5
    assert sum_of_series(b'done{why="stop"} 3\ndone{why="length"} 4\n', b"done") == 7


@pytest.mark.parametrize(
    "text", [b"", b"a 1\n", b"a 1\nb NaN\n", b"a 1\nb -1\n", b"a 1\nb x\n", b"a 1\nb\n", b"# a 1\nb 1\n"]
)
def test_a_figure_that_is_missing_or_nonsense_is_unknown(text: bytes) -> None:
    assert requests_in_flight(text, (b"a", b"b")) is None


@given(st.binary(max_size=100))
def test_any_exposition_is_read_or_unknown(noise: bytes) -> None:
    value = requests_in_flight(b"a 1\n" + noise, (b"a",))
    assert value is None or value >= 0


@live
async def test_a_poll_hands_on_counts_with_own_counts_of_that_instant_and_unknown_for_the_rest() -> None:
    async with rig(complete, complete, complete) as it:
        it.engines[0].running = 5.0
        it.engines[1].running = None
        await it.engines[2].stop()
        seen = Seen(6)
        seen.own[3] = 2.0
        targets = [target(3 + i, engine.port, GAUGES, None) for i, engine in enumerate(it.engines)]
        source = DirectSource(targets, 6, DirectLoad(interval_seconds=PATIENCE_SECONDS), seen)
        began = time.monotonic()
        await source.poll()
        (taken,) = seen.taken
        assert taken.counts == [None, None, None, 6.0, None, None]
        assert taken.own[3] == 2.0
        assert taken.served is None, "the engines do not say what they finished"
        assert began <= taken.at[3] <= time.monotonic()
        now = time.monotonic()
        assert source.board.known(now) == [False, False, False, True, False, False]
        assert source.board.coverage(now) == pytest.approx(1 / 3)
        assert not any(source.board.known(now + 3.0 * PATIENCE_SECONDS)), "three intervals"
        assert source.tally.errors == 2
        assert source.tally.problem


@live
async def test_an_engine_that_hangs_delays_nobody_and_is_unknown() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        writer.close()

    hung = await asyncio.start_server(never, "127.0.0.1", 0)
    seen = Seen(2)
    port = hung.sockets[0].getsockname()[1]
    await DirectSource([target(1, port)], 2, DirectLoad(interval_seconds=0.1), seen).poll()
    assert seen.taken[0].counts == [None, None]
    hung.close()
    await asyncio.sleep(0.05)


@live
async def test_an_engine_that_dies_is_unknown_at_once_and_known_again_when_it_is_back() -> None:
    engine = Engine(complete)
    await engine.start()
    seen = Seen(1)
    source = DirectSource(
        [target(0, engine.port, GAUGES, None)], 1, DirectLoad(interval_seconds=PATIENCE_SECONDS), seen
    )
    await source.poll()
    await engine.stop()
    await source.poll()
    await engine.start()
    await source.poll()
    await engine.stop()
    assert [taken.counts for taken in seen.taken] == [[1.0], [None], [1.0]]
    await asyncio.sleep(0.01)
