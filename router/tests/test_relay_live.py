"""The data path over real sockets: what is relayed, and that every count returns to zero however a request ends."""

import asyncio
import json
import socket
import time
from types import SimpleNamespace

import pytest
from router_rig import (
    STREAM_HEAD,
    Asked,
    Engine,
    begun,
    chunk,
    complete,
    error_of,
    live,
    rig,
    scenario_of_rig,
    standstill,
    stream,
    until,
)

from bes_api.router_config import Limits
from bes_router import health, running


@live
async def test_a_completion_is_relayed_and_only_the_model_is_spliced() -> None:
    async with rig() as it:
        body = b'{ "prompt" : "caf\xc3\xa9 \\"model\\"", "model":  "trivia" ,"max_tokens": 4, "temperature": 0.10 }'
        answer = await it.ask(body)
        assert answer.status == 200
        assert answer.json["model"] == "org/large"
        assert it.engines[0].asked[0].body == body.replace(b'"trivia"', b'"org/large"')
        assert answer.fields["x-bes-model"] == "large"
        assert answer.fields["x-bes-task"] == "trivia"
        assert answer.fields["x-bes-policy"] == "Always"
        assert answer.fields["x-bes-decision"].endswith("-1")
        assert it.own == [0.0, 0.0]


@live
async def test_absent_model_and_service_name_mean_the_default_task() -> None:
    async with rig() as it:
        for body in ({"prompt": "x"}, {"prompt": "x", "model": "demo"}, {"prompt": "x", "model": None}):
            answer = await it.ask(body)
            assert (answer.status, answer.fields["x-bes-task"]) == (200, "chatter")
            assert it.engines[0].asked[-1].json == {"prompt": "x", "model": "org/large"}


@live
async def test_a_stream_is_relayed_byte_for_byte() -> None:
    async with rig(stream) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True, "model": "trivia"})
        head = await client.head()
        assert head.fields["transfer-encoding"] == "chunked"
        raw = await client.reader.readuntil(b"0\r\n\r\n")
        parts = [b'data: {"model": "org/large", "text": "%b"}\n\n' % text for text in (b"a", b"b", b"c")]
        assert raw == b"".join(map(chunk, (*parts, b"data: [DONE]\n\n"))) + b"0\r\n\r\n"
        await it.settle()
        assert it.running.router.metrics.tasks[1].first_token.count == 1
        assert it.running.router.metrics.tasks[1].in_time == 1


@live
async def test_headers_of_the_answer_stay_away_when_not_configured() -> None:
    async with rig(explain=False) as it:
        answer = await it.ask()
        assert answer.status == 200
        assert not [name for name in answer.fields if name.startswith("x-bes")]


@live
async def test_connections_are_kept_on_both_sides() -> None:
    async with rig() as it:
        client = await it.client()
        for _ in range(5):
            client.post({"prompt": "x"})
            assert (await client.answer()).status == 200
        assert it.engines[0].accepted == 1


@live
async def test_credentials_and_hop_by_hop_fields_do_not_reach_the_engine() -> None:
    async with rig() as it:
        fields = "Authorization: Bearer x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Request-Id: 7\r\nTE: x\r\n"
        assert (await it.ask({"prompt": "x"}, fields=fields)).status == 200
        seen = it.engines[0].asked[0].fields
        assert seen["x-request-id"] == "7"
        assert not {"authorization", "x-hop", "te", "connection"} & set(seen)


@live
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with rig() as it:
        client = await it.client()
        one = b'POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"prompt": "%b"}'
        client.raw(one % b"1" + b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" + one % b"2")
        assert [(await client.answer()).status for _ in range(3)] == [200, 404, 200]
        assert [asked.json["prompt"] for asked in it.engines[0].asked] == ["1", "2"]


@live
async def test_a_chunked_request_body_is_understood_and_what_follows_it_too() -> None:
    async with rig() as it:
        client = await it.client()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.raw(
            head + chunk(b'{"prompt"') + chunk(b': "x"}') + b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert (await client.answer()).status == 200
        assert (await client.answer()).json["object"] == "list"
        assert it.engines[0].asked[0].json == {"prompt": "x", "model": "org/large"}


@live
async def test_a_client_that_expects_100_is_told_to_continue() -> None:
    async with rig() as it:
        client = await it.client()
        client.raw(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n")
        assert (await client.head()).status == 100
        client.raw(b'{"prompt": "x"}')
        assert (await client.answer()).status == 200


@live
async def test_the_engines_own_refusal_is_relayed_and_counts_nowhere() -> None:
    async def refuse(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")

    async with rig(refuse) as it:
        answer = await it.ask()
        assert (answer.status, answer.body) == (400, b"{}")
        figures = it.running.router.metrics.tasks[0]
        assert (figures.client_faults, figures.peak_reward, figures.failed) == (1, 0.0, 0)


@live
async def test_an_answer_without_length_ends_with_the_connection() -> None:
    async def until_close(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello")
        writer.close()

    async with rig(until_close) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        answer = await client.answer()
        assert (answer.status, answer.body, answer.fields["connection"]) == (200, b"hello", "close")
        assert it.own == [0.0, 0.0]
        assert it.running.router.metrics.tasks[0].in_time == 1


@live
async def test_an_engine_that_dies_in_a_stream_cuts_the_client_and_leaks_nothing() -> None:
    async def die(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"data: a\n\n"))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with rig(die) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        assert (await client.head()).status == 200
        rest = await client.reader.read()  # to the connection's end
        assert rest.startswith(chunk(b"data: a\n\n"))
        assert error_of(rest.removeprefix(chunk(b"data: a\n\n")))["code"] == "backend_broke_off"
        assert it.own == [0.0, 0.0]
        assert it.errors() == {"backend_broke_off": 1}
        figures = it.running.router.metrics.tasks[0]
        assert (figures.failed, figures.reward, figures.peak_reward) == (1, 0.0, 0.8)


@live
async def test_half_an_answer_without_length_cannot_be_taken_for_a_whole_one() -> None:
    async def fall_silent(engine: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf an")
        await engine.left(writer)

    async with rig(fall_silent, limits=Limits(response_timeout_seconds=1000.0)) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        await client.head()
        it.later(1001.0)
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        assert it.errors() == {"backend_silent": 1}


@live
async def test_an_engine_that_dies_before_its_answer_is_a_503_to_try_again() -> None:
    async def die(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with rig(die) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        answer = await client.answer()
        assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        assert answer.json["error"]["type"] == "server_error"
        assert it.own == [0.0, 0.0]
        client.get("/v1/models")
        assert (await client.answer()).status == 200  # the client's connection is kept


@live
async def test_a_refused_connection_marks_the_backend_until_a_probe_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_SECONDS", 1e6)  # only this test probes
    async with rig() as it:
        engine = it.engines[0]
        await engine.stop()
        answer = await it.ask()
        assert answer.status == 503
        assert it.errors() == {"backend_connect": 1}
        assert it.own == [0.0, 0.0]
        assert not it.running.router.serving.backends[1].ready  # type: ignore[union-attr]  # it is there
        assert (await it.ask()).json["error"]["code"] == "no_backend"
        await engine.start()
        await it.running.generation.health.probe()
        assert (await it.ask()).status == 200


@live
async def test_a_kept_connection_that_the_engine_closed_meanwhile_is_no_failure() -> None:
    async with rig() as it:
        assert (await it.ask()).status == 200
        backend = it.running.router.serving.backends[1]
        assert backend is not None
        kept = backend.idle[0]
        it.engines[0].drop_connections()
        backend.idle[:] = [kept]  # as if the next request came before the event loop saw the end
        assert (await it.ask()).status == 200
        assert it.engines[0].accepted == 2
        assert it.errors() == {}


@live
async def test_nonsense_from_an_engine_never_reaches_the_client() -> None:
    for nonsense in (
        b"SPAM\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ):

        async def speak(_: Engine, __: Asked, writer: asyncio.StreamWriter, said: bytes = nonsense) -> None:
            writer.write(said)

        async with rig(speak) as it:
            answer = await it.ask()
            assert (answer.status, it.errors()) == (503, {"backend_bad_response": 1})
            assert it.own == [0.0, 0.0]


@live
async def test_a_client_that_leaves_closes_the_upstream_request() -> None:
    started = asyncio.Event()

    async def slow(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"data: a\n\n"))
        await writer.drain()
        started.set()
        while not writer.is_closing():
            await asyncio.sleep(0.005)
            writer.write(chunk(b"data: a\n\n"))
            await writer.drain()

    async with rig(slow) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        await started.wait()
        assert it.in_flight == 1
        client.close()
        await it.engines[0].gone.wait()
        await it.settle()
        assert it.errors() == {"client_gone": 1}
        figures = it.running.router.metrics.tasks[0]
        assert (figures.client_gone, figures.failed, figures.peak_reward) == (1, 0, 0.0)


@live
async def test_a_client_that_leaves_while_connecting_leaks_nothing() -> None:
    async with rig() as it:
        client = await it.client()
        client.post({"prompt": "x"})
        await asyncio.sleep(0)
        client.close()
        await asyncio.sleep(0.05)
        await it.settle()
        assert it.own == [0.0, 0.0]


@live
async def test_a_slow_reader_pauses_the_engine_and_gets_everything() -> None:
    total = 24 * 1024 * 1024
    sent = 0

    async def flood(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with rig(flood) as it:
        client = await it.client(receive_buffer=4096)
        client.post({"prompt": "x"})
        await client.head()
        await standstill(lambda: sent)
        assert sent < total / 2  # the engine had to wait: nothing piles up in the router
        got = 0
        while got < total:
            got += len(await client.reader.read(1 << 20))
        assert got == total
        await it.settle()
        client.post({"prompt": "x"})
        sent = total  # the next answer is only a head: the connection to the engine reads again
        await client.head()


@live
async def test_a_client_that_takes_nothing_is_cut_off_in_the_end() -> None:
    async def flood(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with rig(flood, limits=Limits(response_timeout_seconds=1000.0)) as it:
        client = await it.client(receive_buffer=4096)
        client.post({"prompt": "x"})
        await client.head()
        (connection,) = it.running.router.connections
        await until(lambda: connection.exchange is not None and connection.exchange._paused)
        it.later(1001.0)
        await it.settle()
        assert it.errors() == {"client_stalled": 1}


@live
async def test_a_silent_engine_is_a_504() -> None:
    async def silent(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
        await engine.left(writer)

    async with rig(silent, limits=Limits(response_timeout_seconds=0.2)) as it:
        assert (await it.ask()).status == 504
        assert it.own == [0.0, 0.0]
        assert it.errors() == {"backend_silent": 1}


@live
async def test_more_than_the_scenario_admits_is_a_429_with_its_peak_reward() -> None:
    release = asyncio.Event()

    async def wait(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await complete(engine, asked, writer)

    async with rig(wait, scenario=scenario_of_rig(max_in_flight=2)) as it:
        held = [asyncio.create_task(it.ask()) for _ in range(2)]
        while it.in_flight < 2:
            await asyncio.sleep(0.005)
        answer = await it.ask()
        assert (answer.status, answer.fields["retry-after"]) == (429, "1")
        assert answer.json["error"]["code"] == "overloaded"
        release.set()
        assert [each.status for each in await asyncio.gather(*held)] == [200, 200]
        figures = it.running.router.metrics.tasks[0]
        assert (figures.in_time, figures.failed, figures.reward, round(figures.peak_reward, 9)) == (2, 1, 1.6, 2.4)
        assert (await it.ask()).status == 200


@live
async def test_a_hard_deadline_missed_earns_nothing_and_a_soft_one_a_part() -> None:
    async def late(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        await complete(engine, asked, writer)

    async with rig(late, scenario=scenario_of_rig(full=0.1, zero=0.1)) as it:
        assert (await it.ask()).status == 200
        figures = it.running.router.metrics.tasks[0]
        assert (figures.late, figures.in_time, figures.reward, figures.peak_reward) == (1, 0, 0.0, 0.8)
    async with rig(late, scenario=scenario_of_rig(full=0.1, zero=50.1)) as it:
        began = time.monotonic()
        assert (await it.ask()).status == 200
        took = time.monotonic() - began
        figures = it.running.router.metrics.tasks[0]
        assert (figures.late, figures.in_time) == (0, 1)
        assert 0.8 * (1.0 - (took - 0.1) / 50.0) < figures.reward < 0.8 * (1.0 - 0.04 / 50.0)


@live
async def test_no_token_is_held_back_by_nagle_on_either_side() -> None:
    async with rig(stream) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        await client.answer()
        await until(lambda: bool(it.running.router.serving.backends[1].idle))  # type: ignore[union-attr]  # it is there
        for connection in it.running.router.connections:
            sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]  # it is there
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        kept = it.running.router.serving.backends[1].idle[0]._transport  # type: ignore[union-attr]  # it is there
        assert kept.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[union-attr]  # it is there


@live
async def test_draining_finishes_what_runs_and_accepts_nothing_new() -> None:
    release = asyncio.Event()

    async def held(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await complete(engine, asked, writer)

    async with rig(held) as it:
        idle = await it.client()
        idle.get("/v1/models")
        await idle.answer()
        running = asyncio.create_task(it.ask())
        while not it.in_flight:
            await asyncio.sleep(0.005)
        drained = asyncio.create_task(it.running.drain())
        await until(lambda: it.running.router.draining)
        assert (await it.admin("/readyz")).status == 503
        assert (await it.admin("/healthz")).status == 200
        assert await idle.closed()
        try:
            late = await it.client()
        except ConnectionRefusedError:
            pass
        else:
            assert await late.closed()
        release.set()
        answer = await running
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert await drained


@live
async def test_a_request_that_had_begun_to_arrive_is_served_while_draining() -> None:
    async with rig() as it:
        half = await it.client()
        half.raw(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n")
        half.raw(b'{"prompt": ')
        await until(lambda: any(map(begun, it.running.router.connections)))
        drained = asyncio.create_task(it.running.drain())
        await until(lambda: it.running.router.draining)
        half.raw(b'"x"}')
        answer = await half.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert await half.closed()
        assert await drained
        assert it.errors() == {}


@live
async def test_draining_cuts_off_what_outlasts_the_grace_time() -> None:
    async def endless(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        await engine.left(writer)

    async with rig(endless, limits=Limits(drain_timeout_seconds=0.1)) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        await client.head()
        assert not await it.running.drain()
        assert error_of(await client.reader.read())["code"] == "draining"
        assert it.own == [0.0, 0.0]
        assert it.errors() == {"draining": 1}


@live
async def test_requests_without_an_answer_yet_get_a_503_when_the_grace_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(engine: Engine, _: Asked, writer: asyncio.StreamWriter) -> None:
        await engine.left(writer)

    ahead = 0.0
    monkeypatch.setattr(running, "time", SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + ahead))
    async with rig(silent, limits=Limits(drain_timeout_seconds=1000.0, response_timeout_seconds=9000.0)) as it:
        waiting = await it.client()
        waiting.post({"prompt": "x"})
        half = await it.client()
        half.raw(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n")
        await until(lambda: it.in_flight == 1 and any(map(begun, it.running.router.connections)))
        drained = asyncio.create_task(it.running.drain())
        await until(lambda: it.running.router.draining)
        half.raw(b'{"prompt": "x"}')
        await until(lambda: it.in_flight == 2)
        ahead = 1001.0
        for client in (waiting, half):
            answer = await client.answer()
            assert (answer.status, answer.fields["connection"], answer.json["error"]["code"]) == (
                503,
                "close",
                "draining",
            )
        assert not await drained


@live
async def test_many_clients_at_once_all_get_their_own_answer() -> None:
    async def echo(_: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(hash(asked.json["prompt"]) % 7 / 1000)
        body = json.dumps(asked.json["prompt"]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with rig(echo, echo) as it:

        async def talk(name: str) -> None:
            client = await it.client()
            for number in range(10):
                client.post({"prompt": f"{name}.{number}"})
                assert (await client.answer()).json == f"{name}.{number}"

        await asyncio.gather(*(talk(str(each)) for each in range(20)))
        assert it.own == [0.0] * 4
        assert all(engine.asked for engine in it.engines)
        assert it.running.router.metrics.tasks[0].in_time == 200


@live
async def test_the_last_bytes_of_an_answer_tell_how_long_a_token_is() -> None:
    usage = b'"usage": {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51}}'

    async def count(_: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.json.get("stream"):
            writer.write(STREAM_HEAD + chunk(b"data: {}\n\n"))
            await writer.drain()
            await asyncio.sleep(0.005)
            last = chunk(b"data: {" + usage + b"\n\n")
            for part in (last[:40], last[40:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.005)
            writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            body = b'{"choices": [{"text": "%b"}], %b' % (b"x" * 3000, usage)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    for stream_it in (False, True):
        async with rig(count) as it:
            ratio = it.running.generation.serving.ratios[0]
            assert ratio.value == 4.0
            client = await it.client()
            client.post({"prompt": "x" * 500, "stream": stream_it})
            await client.answer()
            await it.settle()
            assert ratio.value > 4.0  # on the way to 10
