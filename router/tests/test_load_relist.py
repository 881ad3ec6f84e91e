"""Engines come and go while their figures are asked for: nobody is credited with what another did."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

from load_rig import FakePrometheus, Seen, answered, fake_prometheus, scraped, target
from router_rig import Engine, complete, live, until

from bes_api.router_config import DirectLoad, PrometheusLoad
from bes_router.load.board import Board, Reading
from bes_router.load.direct import DirectSource
from bes_router.load.prometheus import PrometheusSource


@contextlib.asynccontextmanager
async def source_at(fake: FakePrometheus, seen: Seen, count: int) -> AsyncIterator[PrometheusSource]:
    settings = PrometheusLoad(
        url=fake.url, scrape_interval_seconds=30.0, poll_interval_seconds=0.05, timeout_seconds=20.0
    )
    source = PrometheusSource((), count, settings, seen)
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def join(port: int) -> str:
    return f"127.0.0.1:{port}"


def test_a_place_that_is_anothers_knows_nothing_and_those_that_stay_keep_what_they_know() -> None:
    seen = Seen(2)
    board = Board([target(0, 1), target(1, 2)], 2, 60.0, seen)
    board.take(0, Reading(100.0, 5.0, 0.0, 10.0, 0.0))
    board.take(1, Reading(100.0, 6.0, 0.0, 10.0, 0.0))
    board.hand_on(101.0)
    board.relist([target(0, 3), target(1, 2)], 102.0)
    assert seen.taken[-1].counts == [None, 6.0], "told at once"
    board.take(0, Reading(103.0, 1.0, 0.0, 500.0, 0.0))
    board.take(1, Reading(103.0, 6.0, 0.0, 14.0, 0.0))
    board.hand_on(104.0)
    assert seen.taken[-1].served == (0.0, 4.0), "the newcomer's count is no difference to its predecessor's"
    assert board.lists(target(0, 3))
    assert not board.lists(target(0, 1))
    board.relist([target(1, 2)], 105.0)
    assert board.coverage(105.0) == 1.0
    assert seen.taken[-1].counts == [None, 6.0]


@live
async def test_prometheus_is_asked_of_nobody_while_nobody_is_listed_and_of_whoever_is_listed_then() -> None:
    with fake_prometheus() as fake:
        seen = Seen(2)
        fake.answer = lambda: answered(scraped(join(1), time.time(), 5, 2, 70, at=round(time.time(), 3)))
        async with source_at(fake, seen, 2) as source:
            await until(lambda: len(seen.taken) > 1)
            assert fake.asked == []
            source.relist([target(0, 1)])
            await until(lambda: seen.taken[-1].counts == [7.0, None])
            source.relist([target(0, 2)])
            assert seen.taken[-1].counts == [None, None]
            await until(lambda: "instance='127.0.0.1:2'" in source.tally.problem)
            fake.answer = lambda: answered(scraped(join(2), time.time(), 1, 0, 70, at=round(time.time(), 3)))
            await until(lambda: seen.taken[-1].counts == [1.0, None])
            assert not source.tally.problem


@live
async def test_an_answer_to_a_question_of_before_is_not_taken_for_the_newcomers() -> None:
    with fake_prometheus() as fake:
        seen = Seen(1)
        release, waiting = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def late() -> bytes:
            loop.call_soon_threadsafe(waiting.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
            return answered(scraped(join(1), time.time(), 5, 2, 70, at=round(time.time(), 3)))

        fake.answer = lambda: answered(scraped(join(1), time.time(), 5, 2, 70, at=round(time.time(), 3)))
        async with source_at(fake, seen, 1) as source:
            source.relist([target(0, 1)])
            await until(lambda: bool(seen.taken) and seen.taken[-1].counts == [7.0])
            fake.answer = late
            await waiting.wait()
            source.relist([target(0, 2)])
            before = len(seen.taken)
            fake.answer = lambda: answered([])
            release.set()
            await until(lambda: "1 of 1 backends" in source.tally.problem)
            assert all(taken.counts == [None] for taken in seen.taken[before:])


@live
async def test_a_figure_from_before_an_engine_took_anothers_place_is_of_no_use_and_the_next_one_is() -> None:
    with fake_prometheus() as fake:
        seen = Seen(1)
        fake.answer = lambda: answered([])
        async with source_at(fake, seen, 1) as source:
            source.relist([target(0, 1)])
            seen.own[0] = 9.0  # its predecessor's
            await until(lambda: bool(source.tally.problem))
            scrape = time.time()
            await asyncio.sleep(0.05)
            seen.own[0] = 0.0
            source.relist([target(0, 2)])
            fake.answer = lambda: answered(scraped(join(2), scrape, 2, 0, 70, at=round(time.time(), 3)))
            answers = len(seen.taken)
            await until(lambda: len(seen.taken) > answers + 3)
            assert all(taken.counts == [None] for taken in seen.taken)
            now = time.time()
            fake.answer = lambda: answered(scraped(join(2), now, 2, 0, 70, at=round(time.time(), 3)))
            await until(lambda: seen.taken[-1].counts == [2.0])
            assert seen.taken[-1].own == [0.0]


@live
async def test_a_metrics_page_that_comes_after_its_engine_has_left_says_nothing_of_the_next() -> None:
    release = asyncio.Event()
    engine = Engine(complete)
    await engine.start()
    answered_late = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answered_late.set()
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nrunning 7\nwaiting 0\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(late, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = Seen(1)
    source = DirectSource([target(0, port)], 1, DirectLoad(interval_seconds=30.0), seen)
    polling = asyncio.create_task(source.poll())
    await answered_late.wait()
    source.relist([target(0, engine.port)])
    release.set()
    await polling
    assert [taken.counts for taken in seen.taken] == [[None], [None]]
    assert not source.board.known(-math.inf)[0]
    assert source.tally.errors == 0
    server.close()
    await engine.stop()
    await asyncio.sleep(0.01)
