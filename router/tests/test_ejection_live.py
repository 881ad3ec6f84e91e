"""Backends that fail, hang or are far slower leave and return, over real sockets; readiness follows health, too."""

import asyncio
import time
from collections.abc import Callable

import pytest
from router_rig import Asked, Behaviour, Engine, Rig, complete, live, patient, read_request, rig, until

from bes_api.discovery_config import BackendAddress
from bes_router import ejection, health
from bes_router.backends import Backend
from bes_router.ejection import Cause, Phase
from bes_router.health import Health

NEVER = 1e6


@pytest.fixture(autouse=True)
def on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is timed; nobody is slow or hangs, and nobody returns, until a test wants it so."""
    monkeypatch.setattr(ejection, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(ejection, "FIRST_SECONDS", NEVER)
    monkeypatch.setattr(ejection, "LONGEST_SECONDS", 2 * NEVER)
    monkeypatch.setattr(ejection, "PATIENCE_SECONDS", NEVER)
    monkeypatch.setattr(ejection, "SLOW_FACTOR", NEVER)


class Moody:
    """An engine whose behaviour changes at a word."""

    def __init__(self, behaviour: Behaviour = complete) -> None:
        self.behaviour = behaviour

    async def __call__(self, engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await self.behaviour(engine, asked, writer)


async def fail(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
    status = (500, 424)[len(engine.asked) % 2]  # text-generation-inference says 424
    writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 2\r\n\r\n{}" % status)


async def hang(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
    await engine.left(writer)


class Usual:
    """Engines that answer after about what the scenario's profile predicts, and count what they answered."""

    def __init__(self) -> None:
        self.answered = 0

    async def __call__(self, engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        await complete(engine, asked, writer)
        self.answered += 1

    async def slowly(self, engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Answer when the others have answered forty times: far slower than they are on any machine."""
        enough = self.answered + 40
        await until(lambda: self.answered >= enough)
        await complete(engine, asked, writer)


usual = Usual()


def backend_of(it: Rig, engine: int) -> Backend:
    """The one that serves ``it.engines[engine]``."""
    port = it.engines[engine].port
    return next(each for each in it.running.generation.backends if each.port == port)


async def keep_asking(it: Rig, until: Callable[[], bool], side_by_side: int = 2) -> list[int]:
    """Statuses of requests from a few clients, sent until something is so."""
    statuses: list[int] = []

    async def ask() -> None:
        client = await it.client()
        while not until():
            client.post({"prompt": "x", "max_tokens": 4})
            statuses.append((await client.answer()).status)

    await asyncio.gather(*(ask() for _ in range(side_by_side)))
    return statuses


@live
async def test_an_engine_that_fails_is_kept_out_and_returns_when_it_answers_again() -> None:
    bad = Moody(fail)
    async with rig(bad, usual) as it:
        backend = backend_of(it, 0)
        statuses = await keep_asking(it, lambda: backend.standing.phase is Phase.EJECTED)
        assert 0 < len([each for each in statuses if each != 200]) <= ejection.FAILURES_IN_ROW + 1
        assert (backend.ready, backend.healthy) == (False, True)
        asked = len(it.engines[0].asked)
        assert {(await it.ask()).status for _ in range(5)} == {200}
        assert len(it.engines[0].asked) == asked
        page = (await it.admin("/metrics")).body.decode()
        assert 'bes_router_ejections_total{cause="failing",model="large",replica="0"} 1.0' in page
        assert 'bes_router_backend_out{model="large",phase="ejected",replica="0"} 1.0' in page
        bad.behaviour = usual
        backend.standing.until = time.monotonic()
        assert set(await keep_asking(it, lambda: backend.standing.phase is Phase.SERVING)) == {200}
        assert backend.ready
        assert "bes_router_backend_out{" not in (await it.admin("/metrics")).body.decode()
        assert it.own == [0.0] * 4


@live
async def test_a_relapse_keeps_it_out_for_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejection, "FIRST_SECONDS", 0.3)
    async with rig(fail, usual) as it:
        standing = backend_of(it, 0).standing
        await keep_asking(it, lambda: it.running.router.metrics.setbacks.ejections["large/0", Cause.RELAPSE] > 0)
        assert standing._seconds == 2 * ejection.FIRST_SECONDS


@live
async def test_the_only_engine_is_kept_however_it_fails() -> None:
    async with rig(fail) as it:
        assert {(await it.ask()).status for _ in range(12)} == {500, 424}
        assert backend_of(it, 0).ready


@live
async def test_an_engine_far_slower_than_its_siblings_is_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Usual()
    moody = Moody(usual)
    async with rig(moody, usual, usual) as it:
        await keep_asking(it, lambda: len(it.engines[0].asked) > 2 * ejection.ENOUGH, side_by_side=6)
        moody.behaviour = usual.slowly
        monkeypatch.setattr(ejection, "SLOW_FACTOR", 4.0)
        setbacks = it.running.router.metrics.setbacks
        first = backend_of(it, 0).engine  # what it has is waited for: others must go on for it to come
        statuses = await keep_asking(it, lambda: bool(setbacks.ejections) and not it.own[first], side_by_side=6)
        assert dict(setbacks.ejections) == {("large/0", Cause.SLOW): 1}
        assert set(statuses) == {200}
        assert not backend_of(it, 0).ready


@live
async def test_an_engine_that_stops_answering_is_kept_out_while_its_requests_still_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_there = asyncio.Event()

    async def wait(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await all_there.wait()
        await complete(engine, asked, writer)

    moody, other = Moody(usual), Moody(usual)
    async with rig(moody, other) as it:
        await keep_asking(it, lambda: len(it.engines[0].asked) > ejection.ENOUGH, side_by_side=4)
        moody.behaviour, other.behaviour = hang, wait
        waiting = [asyncio.create_task(it.ask()) for _ in range(12)]
        await until(lambda: it.in_flight == 12)
        all_there.set()
        await until(lambda: it.in_flight == it.own[backend_of(it, 0).engine])  # the other one has answered
        monkeypatch.setattr(ejection, "SLOW_FACTOR", 4.0)
        monkeypatch.setattr(ejection, "PATIENCE_SECONDS", 0.2)
        await until(lambda: not backend_of(it, 0).ready)
        assert it.running.router.metrics.setbacks.ejections["large/0", Cause.HANGING] == 1
        assert {(await it.ask()).status for _ in range(4)} == {200}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@live
async def test_the_only_engine_of_a_model_that_stalled_serves_on_as_soon_as_it_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moody = Moody(usual)
    async with rig(usual, moody, small=1) as it:
        await keep_asking(it, lambda: len(it.engines[1].asked) > ejection.ENOUGH, side_by_side=4)
        moody.behaviour = hang
        monkeypatch.setattr(ejection, "SLOW_FACTOR", 4.0)
        monkeypatch.setattr(ejection, "PATIENCE_SECONDS", 0.0)
        waiting = [asyncio.create_task(it.ask()) for _ in range(ejection.HANGING)]
        await until(lambda: it.in_flight == ejection.HANGING)
        it.later(60.0)
        assert backend_of(it, 1).standing.phase is Phase.SERVING
        moody.behaviour = usual
        assert (await it.ask()).status == 200
        assert not it.running.router.metrics.setbacks.ejections
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@live
async def test_when_the_others_die_an_engine_that_was_kept_out_is_better_than_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "INTERVAL_SECONDS", NEVER)  # a request meets the death first
    bad = Moody(fail)
    async with rig(bad, usual) as it:
        await keep_asking(it, lambda: backend_of(it, 0).standing.phase is Phase.EJECTED)
        bad.behaviour = usual
        await it.engines[1].stop()
        assert (await it.ask()).status == 503  # this one met the death, and nothing else was ready
        assert (await it.ask()).status == 200


@live
async def test_a_backend_is_asked_for_its_health_where_its_engine_says_and_loading_is_not_ready() -> None:
    answers = {"/ready?full=1": 503}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_request(reader)
        status = answers.get(asked.line.split()[1], 404)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def backend(path: str, replica: int) -> Backend:
        listed = BackendAddress(
            model="m", replica=replica, address="127.0.0.1", port=port, served_model="m", health_path=path
        )
        return Backend(listed, replica, 0, lambda *_: None)

    loading, wrong = backend("/ready?full=1", 0), backend("/health", 1)
    probes = Health([loading, wrong])
    seen = []
    async with server:
        for status in (503, 204, 404, 404):
            answers["/ready?full=1"] = status
            with patient():
                await probes.probe()
            seen.append((loading.ready, wrong.ready))
    assert seen == [(False, False), (True, False), (True, False), (False, False)]  # one failure is no proof


def test_ready_is_who_is_healthy_and_not_kept_out() -> None:
    told: list[tuple[int, bool]] = []
    listed = BackendAddress(model="m", replica=0, address="127.0.0.1", port=1, served_model="m")
    backend = Backend(listed, 3, 0, lambda engine, ready: told.append((engine, ready)))
    backend.mark(True)
    backend.hold(True)
    backend.mark(True)
    backend.mark(False)
    backend.hold(False)
    backend.mark(True)
    assert told == [(3, True), (3, False), (3, True)]
