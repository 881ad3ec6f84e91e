"""What clients may send: framing, limits, timeouts, paths, and requests that arrive in any pieces."""

import asyncio
import json
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router_rig import AlwaysModel, begun, chunk, live, rig, scenario_of_rig, standstill, until

from bes_api.router_config import Limits
from bes_router import server
from bes_router.router import COMPLETIONS

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X: a\r\n folded\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\nHost: a\n\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_ambiguous_framing_is_a_400_and_the_connection_closes(raw: bytes) -> None:
    @live
    async def check() -> None:
        async with rig() as it:
            client = await it.client()
            client.raw(raw + b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.fields["connection"]) == (400, "close")
            assert answer.json["error"]["code"] == "malformed"
            assert await client.closed()
            assert it.engines[0].asked == []
            assert it.errors() == {"malformed": 1}

    check()


@live
async def test_heads_and_bodies_above_the_limits_are_refused() -> None:
    limits = Limits(max_head_bytes=500, max_body_bytes=1000)
    async with rig(limits=limits) as it:
        for raw, status in (
            (HEAD + b"X: " + b"y" * 600 + b"\r\n\r\n", 431),
            (b"G" * 600, 431),
            (HEAD + b"Content-Length: 1001\r\n\r\n", 413),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 900) + b"ff\r\n", 413),
        ):
            client = await it.client()
            client.raw(raw)
            assert (await client.answer()).status == status
            assert await client.closed()
        assert it.errors() == {"too_large": 4}


@live
async def test_an_answer_survives_a_client_that_is_still_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 60.0)  # a slow machine may take that long to send the rest
    async with rig(limits=Limits(max_body_bytes=1000)) as it:
        client = await it.client()
        client.raw(HEAD + b"Content-Length: 4000000\r\n\r\n" + b"x" * 4_000_000)
        assert (await client.answer()).status == 413


@live
async def test_requests_that_dawdle_are_timed_out_and_idle_connections_closed() -> None:
    limits = Limits(head_timeout_seconds=1000.0, body_timeout_seconds=2000.0, idle_timeout_seconds=3000.0)
    async with rig(limits=limits) as it:
        half_head, half_body, idle = await it.client(), await it.client(), await it.client()
        half_head.raw(b"POST /v1")
        half_body.raw(HEAD + b"Content-Length: 10\r\n\r\n{")
        await until(lambda: sum(begun(each) for each in it.running.router.connections) == 2)
        await until(lambda: len(it.running.router.connections) == 3)
        it.later(1000.0)
        assert (await half_head.answer()).status == 408
        assert it.errors() == {"client_timeout": 1}
        it.later(2000.0)
        assert (await half_body.answer()).status == 408
        assert it.errors() == {"client_timeout": 2}
        assert len([each for each in it.running.router.connections if not begun(each)]) == 1
        it.later(3000.0)
        assert await idle.closed()
        assert it.errors() == {"client_timeout": 2}


@live
async def test_unknown_paths_methods_and_models_are_told_so_in_openais_shape() -> None:
    async with rig() as it:
        client = await it.client()
        client.get("/v2")
        assert (await client.answer()).json["error"]["code"] == "not_found"
        client.get("/v1/completions")
        answer = await client.answer()
        assert (answer.status, answer.fields["allow"]) == (405, "POST")
        for model in ("large", "gpt-4", "Chatter"):
            client.post({"prompt": "x", "model": model})
            answer = await client.answer()
            assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
        client.post(b"{")
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
        client.post({"prompt": "x"})
        assert (await client.answer()).status == 200
        assert it.running.router.metrics.tasks[0].peak_reward == 0.8  # a client's own faults count nowhere


@live
async def test_the_list_of_models_has_tasks_as_virtual_models() -> None:
    async with rig() as it:
        client = await it.client()
        client.get("/v1/models?limit=3")
        assert [each["id"] for each in (await client.answer()).json["data"]] == ["chatter", "trivia"]
        client.get("/v1/models/trivia")
        assert (await client.answer()).json["id"] == "trivia"
        client.get("/v1/models/other")
        assert (await client.answer()).status == 404


@live
async def test_a_prompt_that_fits_no_model_is_a_400_and_no_backend_a_503() -> None:
    async with rig() as it:
        answer = await it.ask({"prompt": [1] * 2040, "max_tokens": 9})
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
        assert (await it.ask({"prompt": [1] * 2040, "max_tokens": 8})).status == 200
    scenario = scenario_of_rig()
    async with rig(scenario=scenario, policy=AlwaysModel(scenario, 0)) as it:  # `small` has no backend
        answer = await it.ask()
        assert (answer.status, answer.fields["retry-after"], answer.json["error"]["code"]) == (503, "1", "no_backend")
        assert it.running.router.metrics.tasks[0].failed == 1


@given(cuts=st.lists(st.integers(0, 400), max_size=8), chunked=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_requests_are_the_same_in_whatever_pieces_they_arrive(cuts: list[int], chunked: bool) -> None:
    body = json.dumps({"prompt": "hello", "model": "trivia"}).encode()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    one = b"POST " + COMPLETIONS + b" HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n"
    one += chunk(body[:10]) + chunk(body[10:]) + b"0\r\n\r\n" if chunked else body
    raw = one + b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" + one

    @live
    async def check() -> None:
        async with rig() as it:
            client = await it.client()
            edges = [0, *sorted({min(cut, len(raw)) for cut in cuts}), len(raw)]
            for start, end in pairwise(edges):
                client.raw(raw[start:end])
                await asyncio.sleep(0.001)
            assert [(await client.answer()).status for _ in range(3)] == [200] * 3
            assert [asked.json for asked in it.engines[0].asked] == [{"prompt": "hello", "model": "org/large"}] * 2

    check()


@live
async def test_a_client_that_pipelines_without_end_is_held_back() -> None:
    release = asyncio.Event()

    async def held(engine: object, asked: object, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with rig(held, limits=Limits(max_head_bytes=1000)) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        for _ in range(200):
            client.get("/v1/models")
        await until(lambda: bool(it.engines[0].asked))
        (connection,) = it.running.router.connections
        await standstill(lambda: len(connection._buffer))
        assert len(connection._buffer) < 300_000
        release.set()
        assert (await client.answer()).status == 200
        for _ in range(200):
            assert (await client.answer()).status == 200


@live
async def test_a_client_that_reads_no_answers_is_not_read_from_for_ever() -> None:
    async with rig() as it:
        client = await it.client(receive_buffer=4096)
        asked = b"GET /v1/models HTTP/1.1\r\nHost: test\r\n\r\n"
        client.raw(asked * 400_000)
        await until(lambda: bool(it.running.router.connections))
        (connection,) = it.running.router.connections
        await standstill(client.writer.transport.get_write_buffer_size)
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 2_000_000
        assert len(connection._buffer) < 1_000_000
        for _ in range(2_000):
            assert (await client.answer()).status == 200


@live
async def test_a_flood_of_empty_lines_holds_nobody_up() -> None:
    async with rig() as it:
        client = await it.client()
        began = time.process_time()
        client.raw(b"\r\n" * 1_500_000)
        client.get("/v1/models")
        assert (await client.answer()).status == 200
        assert time.process_time() - began < 1.5  # this process's own work, whatever else the machine does
