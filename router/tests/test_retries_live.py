"""A request that failed before a byte of its answer was relayed goes to another engine, over real sockets."""

import asyncio
import socket

import pytest
from router_rig import (
    STREAM_HEAD,
    Asked,
    Behaviour,
    Engine,
    Rig,
    complete,
    live,
    rig,
    scenario_of_rig,
    until,
)

from bes_router import relay
from bes_router.policy.layout import Decision, LoadView, RoutingRequest


@pytest.fixture(autouse=True)
def refusals_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "HELD_SECONDS", 60.0)


class FirstReady:
    """A policy for tests: the first ready engine, so that it is known who is asked first."""

    name = "First"

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - a contract
        ready = [engine for engine in range(len(view.ready)) if view.ready[engine]]
        return Decision(ready[0] // (len(view.ready) // 2), ready[0]) if ready else Decision(-1, -1)


async def die(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def talk_nonsense(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SPAM\r\n\r\n")


def saying(status: int, body: bytes = b'{"error": "busy"}', *, pieces: bool = False) -> Behaviour:
    async def answer(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d No\r\nX-Engine: 1\r\ncontent-length: %d\r\n\r\n" % (status, len(body)))
        if pieces:
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(body)

    return answer


def retries(it: Rig) -> dict[tuple[str, str], int]:
    return dict(it.running.router.metrics.setbacks.retries)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (die, "backend_broke_off"),
        (talk_nonsense, "backend_bad_response"),
        (saying(429), "engine_429"),
        (saying(502), "engine_502"),
        (saying(503), "engine_503"),
        (saying(504, pieces=True), "engine_504"),
    ],
)
@live
async def test_what_fails_before_the_first_byte_is_answered_by_another_engine(first: Behaviour, reason: str) -> None:
    async with rig(first, complete, policy=FirstReady()) as it:
        answer = await it.ask()
        assert (answer.status, answer.json["object"]) == (200, "text_completion")
        assert "x-engine" not in answer.fields
        assert answer.fields["x-bes-decision"].endswith("-2; attempt=2")
        assert it.engines[1].asked[0].body == it.engines[0].asked[0].body
        assert retries(it) == {(reason, "answered"): 1}
        assert it.errors() == {}
        assert it.own == [0.0] * 4
        figures = it.running.router.metrics.tasks[0]
        assert (figures.in_time, figures.failed, figures.peak_reward) == (1, 0, 0.8)
        explained = it.running.ring.explain(answer.fields["x-bes-decision"].partition(";")[0])
        assert explained is not None
        assert explained.retried_from is not None


@live
async def test_a_refused_connection_is_answered_by_another_engine_and_the_next_request_goes_there_at_once() -> None:
    async with rig(complete, complete, policy=FirstReady()) as it:
        await it.engines[0].stop()
        for _ in range(2):
            assert (await it.ask()).status == 200
        assert retries(it) == {("backend_connect", "answered"): 1}
        assert len(it.engines[1].asked) == 2


@live
async def test_a_retry_may_take_another_model_whose_name_the_body_then_says() -> None:
    async with rig(die, complete, policy=FirstReady(), small=1) as it:
        answer = await it.ask()
        assert (answer.fields["x-bes-model"], answer.json["model"]) == ("large", "org/large")
        assert it.engines[0].asked[0].json["model"] == "org/small"


@live
async def test_when_an_engine_dies_its_neighbours_on_the_gpu_are_not_asked_while_others_are_there() -> None:
    scenario = scenario_of_rig(replicas=3)
    large = scenario.models[1].model_copy(update={"placement": (0, 0, 1)})
    scenario = scenario.model_copy(update={"models": (scenario.models[0], large)})
    async with rig(die, complete, complete, scenario=scenario, policy=FirstReady()) as it:
        assert (await it.ask()).status == 200
        assert [len(engine.asked) for engine in it.engines] == [1, 0, 1]
        await it.engines[2].stop()
        assert (await it.ask()).status == 200  # better a neighbour than nobody
        assert len(it.engines[1].asked) == 1


@live
async def test_there_are_three_attempts_and_the_client_gets_the_first_error_as_the_engine_said_it() -> None:
    behaviours = (saying(503, b'{"error": "first"}'), saying(429), die, complete)
    async with rig(*behaviours, policy=FirstReady()) as it:
        answer = await it.ask()
        assert (answer.status, answer.body, answer.fields["x-engine"]) == (503, b'{"error": "first"}', "1")
        assert answer.fields["x-bes-decision"].endswith("-1")
        assert [len(engine.asked) for engine in it.engines] == [1, 1, 1, 0]
        assert retries(it) == {("engine_503", "failed"): 1, ("engine_429", "failed"): 1}
        assert it.errors() == {"engine_failed": 1}
        figures = it.running.router.metrics.tasks[0]
        assert (figures.failed, figures.peak_reward) == (1, 0.8)
        assert it.own == [0.0] * 8


@live
async def test_a_first_failure_without_words_is_worded_by_the_router_and_the_connection_is_kept() -> None:
    async with rig(die, saying(503), policy=FirstReady()) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "backend_broke_off")
        client.get("/v1/models")
        assert (await client.answer()).status == 200


@live
async def test_nothing_is_tried_again_once_a_byte_was_relayed() -> None:
    async def die_later(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with rig(die_later, complete, policy=FirstReady()) as it:
        client = await it.client()
        client.post({"prompt": "x", "stream": True})
        assert (await client.head()).status == 200
        assert b"backend_broke_off" in await client.reader.read()
        assert (len(it.engines[1].asked), retries(it)) == (0, {})


@live
async def test_nothing_is_tried_again_when_it_could_earn_nothing_any_more() -> None:
    async def refuse_late(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await saying(503)(engine, asked, writer)

    scenario = scenario_of_rig(replicas=2, full=0.05, zero=0.08)
    async with rig(refuse_late, complete, scenario=scenario, policy=FirstReady()) as it:
        assert (await it.ask()).status == 503
        assert (len(it.engines[1].asked), retries(it)) == (0, {})


@live
async def test_an_engine_that_only_failed_otherwise_is_relayed_at_once() -> None:
    for status in (400, 422, 500):
        async with rig(saying(status), complete, policy=FirstReady()) as it:
            assert (await it.ask()).status == status
            assert len(it.engines[1].asked) == 0


@live
async def test_a_refusal_whose_rest_never_comes_is_given_up_and_tried_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "HELD_SECONDS", 0.3)

    async def stop_short(engine: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 20\r\n\r\nnot all")
        await engine.left(writer)

    async with rig(stop_short, complete, policy=FirstReady()) as it:
        assert (await it.ask()).status == 200
        assert retries(it) == {("backend_silent", "answered"): 1}


@live
async def test_a_refusal_without_end_is_not_kept() -> None:
    async def shout(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * relay.MAX_HELD_BYTES)
            await writer.drain()

    async with rig(shout, complete, policy=FirstReady()) as it:
        assert (await it.ask()).status == 200


@live
async def test_a_client_that_leaves_between_two_attempts_leaks_nothing() -> None:
    asked = asyncio.Event()

    async def wait(engine: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await engine.left(writer)

    async with rig(die, wait, policy=FirstReady()) as it:
        client = await it.client()
        client.post({"prompt": "x"})
        await asked.wait()
        assert it.in_flight == 1
        linger = client.writer.get_extra_info("socket")
        linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        await it.settle()
        assert it.own == [0.0] * 4
        assert retries(it) == {("backend_broke_off", "client_gone"): 1}


@live
async def test_many_clients_of_an_engine_that_dies_under_them_all_get_an_answer() -> None:
    dead = asyncio.Event()

    async def wait(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await dead.wait()
        await complete(engine, asked, writer)

    async with rig(wait, wait, wait) as it:
        asking = [asyncio.create_task(it.ask()) for _ in range(60)]
        await until(lambda: sum(len(engine.asked) for engine in it.engines) == 60)
        lost = len(it.engines[0].asked)
        await it.engines[0].stop()
        dead.set()
        assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
        assert it.own == [0.0] * 6
        assert sum(retries(it).values()) == lost > 0
