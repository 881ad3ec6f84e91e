"""Deadlines that abort, clients that close their side, engines that say something before their answer; real sockets."""

import asyncio
import time

import pytest
from router_rig import (
    STREAM_HEAD,
    Asked,
    Client,
    Engine,
    Rig,
    chunk,
    complete,
    error_of,
    live,
    rig,
    scenario_of_rig,
    stream,
    until,
)

from bes_api.scenario import Measure, OnMiss, Scenario
from bes_router.deadlines import SLOT_SECONDS, DeadlineWheel

DEADLINE = 0.15
FAR = 60.0
"""A deadline that comes when a test says so, for what must have happened before it."""


def aborting(deadline: float = FAR, measure: Measure = Measure.COMPLETION, replicas: int = 1) -> Scenario:
    """The task chatter has this deadline, trivia a far one."""
    scenario = scenario_of_rig(replicas=replicas, full=FAR, zero=FAR)
    tasks = [task.model_copy(update={"on_miss": OnMiss.ABORT, "measure": measure}) for task in scenario.tasks]
    tasks[0] = tasks[0].model_copy(update={"full_until_seconds": deadline, "zero_from_seconds": deadline})
    return scenario.model_copy(update={"tasks": tuple(tasks)})


async def silent(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
    await engine.left(writer)


async def endless(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    while not writer.is_closing():
        writer.write(chunk(b"data: a\n\n"))
        await writer.drain()
        await asyncio.sleep(0.01)


def miss(it: Rig) -> None:
    """Let the deadlines pass of everything that was asked until now."""
    it.reach(time.monotonic() + FAR + SLOT_SECONDS)


def counts(it: Rig) -> tuple[int, int, int, float, float]:
    figures = it.running.router.metrics.tasks[0]
    return figures.in_time, figures.late, figures.failed, figures.reward, figures.peak_reward


@live
async def test_a_request_without_an_answer_at_its_deadline_is_stopped_and_told_so() -> None:
    async def silent_once_known(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (complete if len(engine.asked) == 1 else silent)(engine, asked, writer)

    async with rig(silent_once_known, scenario=aborting(DEADLINE)) as it:
        client = await it.client()
        client.post({"prompt": "x", "model": "trivia"})  # the next one goes out at once, over its connection
        assert (await client.answer()).status == 200
        began = time.monotonic()
        client.post({"prompt": "x"})
        answer = await client.answer()
        assert time.monotonic() - began >= DEADLINE
        assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_missed")
        assert "retry-after" not in answer.fields
        assert it.own == [0.0, 0.0]
        await it.engines[0].gone.wait()  # cancelled there
        assert it.errors() == {"deadline_missed": 1}
        assert counts(it) == (0, 1, 0, 0.0, 0.8)
        client.get("/v1/models")
        assert (await client.answer()).status == 200  # the connection is kept


@live
async def test_a_stream_that_has_begun_ends_with_an_error_event_and_its_framing_is_whole() -> None:
    async with rig(endless, scenario=aborting()) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        assert (await client.head()).status == 200
        miss(it)
        raw = await client.reader.readuntil(b"0\r\n\r\n")
        events = raw.removesuffix(b"0\r\n\r\n").split(chunk(b"data: a\n\n"))
        assert not any(events[:-1])
        assert error_of(events[-1])["code"] == "deadline_missed"
        await it.engines[0].gone.wait()
        client.get("/v1/models")
        assert (await client.answer()).status == 200
        assert counts(it) == (0, 1, 0, 0.0, 0.8)
        assert it.own == [0.0, 0.0]


@live
async def test_in_the_middle_of_an_event_or_of_an_answer_with_a_length_only_a_reset_is_honest() -> None:
    heads = (
        STREAM_HEAD + b"20\r\ndata: {",
        STREAM_HEAD + chunk(b"data: half"),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: a\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"{\n\n"),
    )
    for said in heads:

        async def say(_: Engine, __: Asked, writer: asyncio.StreamWriter, said: bytes = said) -> None:
            writer.write(said)
            await asyncio.sleep(30)

        async with rig(say, scenario=aborting()) as it:
            client = await it.client()
            client.post({"prompt": "x", "stream": True})
            assert (await client.head()).status == 200
            miss(it)
            with pytest.raises(ConnectionResetError):
                await client.reader.readuntil(b"never")
            assert it.errors() == {"deadline_missed": 1}


@live
async def test_a_stream_that_ends_with_its_connection_says_the_error_and_closes() -> None:
    async def say(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: a\n\n")
        await asyncio.sleep(30)

    async with rig(say, scenario=aborting()) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        await client.head()
        miss(it)
        body = await client.reader.read()
        assert body.startswith(b"data: a\n\ndata: {")
        assert b"deadline_missed" in body


@live
async def test_answers_in_time_are_left_alone_by_deadlines_that_pass_later() -> None:
    async with rig(stream, scenario=aborting()) as it:
        client = await it.client()
        for _ in range(3):
            client.post({"prompt": "x", "stream": True})
            await client.head()
            assert b"[DONE]" in await client.reader.readuntil(b"0\r\n\r\n")
        miss(it)
        assert (counts(it)[:3], it.errors()) == ((3, 0, 0), {})


@live
async def test_where_the_first_token_counts_a_stream_that_began_in_time_goes_on() -> None:
    missed = asyncio.Event()

    async def long(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"data: a\n\n"))
        await writer.drain()
        await missed.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with rig(long, scenario=aborting(measure=Measure.FIRST_TOKEN)) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        await client.head()
        await client.reader.readuntil(b"data: a\n\n")
        miss(it)
        missed.set()
        assert b"[DONE]" in await client.reader.readuntil(b"0\r\n\r\n")
        await it.settle()
        assert counts(it) == (1, 0, 0, 0.8, 0.8)
        assert (await it.ask({"prompt": "x"})).status == 200
    async with rig(silent, scenario=aborting(DEADLINE, Measure.FIRST_TOKEN)) as it:
        assert (await it.ask()).status == 504


@live
async def test_a_retry_ends_at_the_same_deadline() -> None:
    dies = asyncio.Event()

    async def die(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        await dies.wait()
        writer.transport.abort()

    async with rig(die, silent, scenario=aborting(replicas=2)) as it:
        it.running.generation.serving.backends[3].hold(True)  # type: ignore[union-attr]  # the other one comes first
        asking = asyncio.create_task(it.ask())
        await until(lambda: bool(it.engines[0].asked))
        first = time.monotonic() + FAR + SLOT_SECONDS  # its deadline has passed by then
        await asyncio.sleep(4 * SLOT_SECONDS)  # a deadline of the second attempt would be later than that
        it.running.generation.serving.backends[3].hold(False)  # type: ignore[union-attr]  # it is there
        dies.set()
        await until(lambda: bool(it.engines[1].asked))
        it.reach(first)
        assert (await asking).status == 504
        assert dict(it.running.router.metrics.setbacks.retries) == {("backend_broke_off", "late"): 1}
        assert it.own == [0.0] * 4


async def past_interims(client: Client) -> int:
    while (head := await client.head()).status == 100:
        pass
    await client.reader.readexactly(int(head.fields["content-length"]))
    assert head.fields["connection"] == "close"
    return head.status


@live
async def test_a_client_that_closed_its_side_still_gets_its_answer() -> None:
    async def slow(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.7)  # longer than the time after which a client that has left would be noticed
        await complete(engine, asked, writer)

    async with rig(slow) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        client.writer.write_eof()
        assert await past_interims(client) == 200
        assert await client.closed()
        assert (counts(it)[0], it.errors()) == (1, {})


@live
async def test_pipelined_requests_before_the_end_are_all_answered() -> None:
    async with rig() as it:
        client = await it.client()
        client.post({"prompt": "1"})
        client.post({"prompt": "2"})
        client.raw(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\nPOST /half")
        client.writer.write_eof()
        raw = await client.reader.read()
        assert raw.count(b"HTTP/1.1 200 OK") == 3
        assert len(it.engines[0].asked) == 2
        while it.running.router.connections:
            await asyncio.sleep(0.005)


@live
async def test_a_client_that_left_altogether_is_noticed_though_nothing_was_relayed_yet() -> None:
    async with rig(silent) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        while not it.in_flight:
            await asyncio.sleep(0.005)
        client.close()
        await it.engines[0].gone.wait()  # which would wait for ever: nothing else ends before this test does
        assert it.errors() == {"client_gone": 1}
        assert it.own == [0.0, 0.0]


@live
async def test_what_an_engine_says_before_its_answer_is_skipped() -> None:
    async def hint(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await complete(engine, asked, writer)

    async with rig(hint) as it:
        client = await it.client()
        for _ in range(3):
            client.post({"prompt": "x"})
            answer = await client.answer()
            assert (answer.status, answer.json["object"]) == (200, "text_completion")
            assert "link" not in answer.fields
        assert it.engines[0].accepted == 1


@live
async def test_the_wheel_expires_everything_once_and_never_early() -> None:
    expired: list[tuple[float, float]] = []
    wheel: DeadlineWheel[float] = DeadlineWheel(lambda item, now: expired.append((item, now)))
    now = time.monotonic()
    given = [now + 0.05, now + 0.01, now + 0.011, now - 1.0, now + 0.03]
    soon: list[bool] = []

    def look(item: float) -> None:
        soon.append(any(each == item for each, _ in expired))

    def add(item: float) -> None:
        """Beside a plain timer for a little later: however slow this machine is, both of them wait for it."""
        wheel.add(item, item)
        delay = max(0.0, item - time.monotonic()) + 3 * SLOT_SECONDS
        asyncio.get_running_loop().call_later(delay, look, item)

    for item in given:
        add(item)
    await asyncio.sleep(0.02)
    add(now + 0.04)
    await until(lambda: len(soon) == 6)
    assert sorted(item for item, _ in expired) == sorted([*given, now + 0.04])
    assert [item for item, _ in expired if item in given] == sorted(given)
    assert all(at >= item for item, at in expired)
    assert all(soon)
