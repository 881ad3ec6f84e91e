"""What the router's tests stand on: real engines on loopback with scripted behaviour, a router, a plain client."""

import asyncio
import contextlib
import functools
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.router_config import Clients, DirectLoad, Limits, RouterConfig, StaticPolicy
from bes_api.scenario import Batching, LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_router import deadlines, generation, health, serving
from bes_router.admin import TokenFile
from bes_router.decider import Loaded
from bes_router.decision_log import DecisionLog
from bes_router.delivery import Delivered
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Decision, LoadView, RoutingRequest
from bes_router.running import RunningRouter
from bes_router.server import ClientConnection

TEST_SECONDS = 100
"""Only a test that hangs lasts so long; below what a router waits for a silent engine."""
PATIENCE_SECONDS = 60.0
NO_DIGEST = "sha256:" + "0" * 64


def live(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, bounded in time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TEST_SECONDS):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bounded())

    return run


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the test has set going; `live` bounds it."""
    while not holds():
        await asyncio.sleep(0.005)


async def standstill(figure: Callable[[], int], turns: int = 50) -> None:
    """Wait until a figure stays what it is while everybody in this process has had so many turns."""
    last, same = -1, 0
    while same < turns:
        now = figure()
        last, same = now, same + 1 if now == last else 0
        await asyncio.sleep(0.005)


def begun(connection: ClientConnection) -> bool:
    """Whether a part of a request has come."""
    return connection._head is not None or bool(connection._buffer)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """A router beside its engines in one slow process takes none of them for dead, and keeps its connections."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(generation, "FIRST_PROBE_SECONDS", PATIENCE_SECONDS)
        patched.setattr(health, "TIMEOUT_SECONDS", PATIENCE_SECONDS)
        patched.setattr(serving, "IDLE_SECONDS", PATIENCE_SECONDS)
        yield


@dataclass
class Asked:
    """A request as an engine saw it."""

    line: str
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]  # JSON


Behaviour = Callable[["Engine", Asked, asyncio.StreamWriter], Awaitable[None]]


async def complete(_: "Engine", asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer at once, like an engine that is not streaming."""
    body = json.dumps({"object": "text_completion", "model": asked.json["model"], "choices": [{"text": "hi"}]}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def error_of(raw: bytes) -> dict[str, Any]:
    """The error of a stream's last event, alone in a chunk; whatever follows that chunk fails."""
    size, _, rest = raw.partition(b"\r\n")
    event, end = rest[: int(size, 16)], rest[int(size, 16) :]
    assert event.startswith(b"data: {")
    assert (event[-2:], end) == (b"\n\n", b"\r\n")
    return json.loads(event.removeprefix(b"data: "))["error"]  # type: ignore[no-any-return]  # JSON


async def stream(_: "Engine", asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Stream three tokens and the end, each in a chunk of its own."""
    writer.write(STREAM_HEAD)
    for text in ("a", "b", "c"):
        writer.write(chunk(b'data: {"model": "%b", "text": "%b"}\n\n' % (asked.json["model"].encode(), text.encode())))
        await asyncio.sleep(0.002)
    writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@dataclass
class Engine:
    """A small real engine on an ephemeral port; ``behaviour`` answers /v1/completions."""

    behaviour: Behaviour = complete
    running: float | None = 0.0
    healthy: bool = True
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    accepted: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = field(default_factory=dict)

    async def left(self, writer: asyncio.StreamWriter) -> None:
        """Wait until whoever asked closes the connection."""
        with contextlib.suppress(ConnectionError):
            assert not await self._readers[writer].read(1)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_connections(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self._readers[writer] = reader
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            del self._readers[writer]
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted = False
        try:
            while True:
                asked = await read_request(reader)
                if asked.line.startswith(("POST /v1/completions ", "POST /v1/chat/completions ")):
                    if not counted:
                        self.connections, self.accepted, counted = self.connections + 1, self.accepted + 1, True
                    self.asked.append(asked)
                    await self.behaviour(self, asked, writer)
                elif asked.line.startswith("GET /health "):
                    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (200 if self.healthy else 503))
                else:
                    figures = b"" if self.running is None else FIGURES % (self.running, 1.0)
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(figures) + figures)
                await writer.drain()
        finally:
            if counted:
                self.connections -= 1
                self.gone.set()


FIGURES = (
    b"# HELP vllm:num_requests_running Number of requests running.\n"
    b"# TYPE vllm:num_requests_running gauge\n"
    b'vllm:num_requests_running{engine="0",model_name="m"} %f\n'
    b'vllm:num_requests_waiting{engine="0",model_name="m"} %f\n'
)


async def read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *lines = head.strip().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    return Asked(line, fields, await reader.readexactly(int(fields.get("content-length", "0"))))


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]  # JSON


class Client:
    """A plain HTTP/1.1 client over one connection; ``raw`` sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def post(self, body: Mapping[str, Any] | bytes, path: str = "/v1/completions", fields: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{fields}"
        self.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    def get(self, path: str) -> None:
        self.raw(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answer:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = raw.strip().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        return Answer(int(line.split()[1]), fields, b"")

    async def answer(self) -> Answer:
        answer = await self.head()
        if answer.fields.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                answer.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        elif "content-length" in answer.fields:
            answer.body = await self.reader.readexactly(int(answer.fields["content-length"]))
        else:
            answer.body = await self.reader.read()
        return answer

    async def closed(self) -> bool:
        """Whether the router ends the connection without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


class AlwaysModel:
    """A policy for tests: the least loaded ready engine of one model, if the request fits it."""

    def __init__(self, scenario: Scenario, model: int) -> None:
        self._catalogue = catalogue_of(scenario)
        self._model = model

    @property
    def name(self) -> str:
        return "Always"

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - a contract
        catalogue, model = self._catalogue, self._model
        engines = range(catalogue.model_first[model], catalogue.model_first[model + 1])
        ready = [engine for engine in engines if view.ready[engine]]
        if not ready or request.prompt_tokens + request.output_tokens > catalogue.context[model]:
            return Decision(model, -1)
        return Decision(model, min(ready, key=lambda engine: view.load[engine]))


def scenario_of_rig(replicas: int = 1, max_in_flight: int = 64, full: float = 60.0, zero: float = 60.0) -> Scenario:
    latency = LatencyProfile(
        prefill_base_ms=5,
        prefill_per_token_ms=0.05,
        decode_base_ms=5,
        decode_per_sequence_ms=0.1,
        decode_per_context_token_ms=0.0001,
    )
    models = [
        ScenarioModel(
            name=name,
            latency=latency,
            batching=Batching.PREFILL_FIRST,
            prefill_token_budget=4096,
            max_batch_size=64,
            kv_cache_tokens=60000,
            context_tokens=context,
            placement=tuple(range(replicas)),
        )
        for name, context in (("small", 1024), ("large", 2048))
    ]
    tasks = [
        ScenarioTask(
            name=name,
            full_until_seconds=full,
            zero_from_seconds=zero,
            quality={"small": 0.4, "large": 0.8},
            prompt_tokens=128,
            output_tokens=16,
        )
        for name in ("chatter", "trivia")
    ]
    return Scenario(
        gpus=tuple(ScenarioGPU() for _ in range(replicas)),
        models=tuple(models),
        tasks=tuple(tasks),
        default_task="chatter",
        max_in_flight=max_in_flight,
    )


@dataclass
class Rig:
    """A running router and the ports of it."""

    running: RunningRouter
    port: int
    admin_port: int
    engines: list[Engine]
    clients: list[Client] = field(default_factory=list)

    async def client(self, receive_buffer: int | None = None) -> Client:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        limit = 1024 if receive_buffer is not None else 1 << 20
        client = Client(*await asyncio.open_connection(sock=sock, limit=limit))
        self.clients.append(client)
        return client

    async def ask(self, body: Mapping[str, Any] | bytes | None = None, **more: Any) -> Answer:
        client = await self.client()
        client.post({"prompt": "hello", "max_tokens": 4} if body is None else body, **more)
        return await client.answer()

    async def admin(self, path: str) -> Answer:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.admin_port))
        client.get(path)
        answer = await client.answer()
        client.close()
        return answer

    @property
    def in_flight(self) -> int:
        return self.running.router.serving.tracker.in_flight

    @property
    def own(self) -> list[float]:
        own = self.running.router.serving.tracker.own
        return [own[engine] for engine in range(len(own))]

    def errors(self) -> dict[str, int]:
        return {str(reason): count for reason, count in self.running.router.metrics.errors.items() if count}

    async def settle(self) -> None:
        """Wait until nothing is in flight."""
        await until(lambda: not self.in_flight)

    def later(self, seconds: float) -> None:
        """What the router does beside its path, as it would be done in so many seconds."""
        self.running._sweep_once(time.monotonic() + seconds)

    def reach(self, instant: float) -> None:
        """What the router does about deadlines at the monotonic ``instant``, now."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(deadlines, "time", SimpleNamespace(monotonic=lambda: instant))
            self.running.router.serving._aborts._fire()


def _places(small: int, engines: int) -> list[tuple[str, int]]:
    return [("small", i) for i in range(small)] + [("large", i) for i in range(engines - small)]


@contextlib.asynccontextmanager
async def rig(
    *behaviours: Behaviour,
    scenario: Scenario | None = None,
    limits: Limits | None = None,
    policy: Policy | None = None,
    listed: int | None = None,
    small: int = 0,
    explain: bool = True,
    decisions: DecisionLog | None = None,
    clients: Clients | None = None,
    token: TokenFile | None = None,
) -> AsyncIterator[Rig]:
    """A router over one engine per behaviour (``listed`` of them known to it): the first ``small`` of them of `small`,
    the rest of `large`.
    """
    engines = [Engine(behaviour) for behaviour in (behaviours or (complete,))]
    for engine in engines:
        await engine.start()
    scenario = scenario or scenario_of_rig(replicas=len(engines))
    limits = limits or Limits()
    if "connect_timeout_seconds" not in limits.model_fields_set:
        limits = limits.model_copy(update={"connect_timeout_seconds": PATIENCE_SECONDS})
    config = RouterConfig(
        service="demo",
        scenario=scenario,
        discovery=StaticBackends(
            backends=tuple(
                BackendAddress(
                    model=model, replica=replica, address="127.0.0.1", port=engine.port, served_model=f"org/{model}"
                )
                for (model, replica), engine in zip(_places(small, len(engines)), engines[:listed], strict=False)
            )
        ),
        load=DirectLoad(interval_seconds=0.5, stale_after_seconds=PATIENCE_SECONDS),
        policy=StaticPolicy(model="large"),
        limits=limits,
        clients=clients or Clients(),
        explain_headers=explain,
    )
    chosen = policy or AlwaysModel(scenario, 1)
    loaded = Loaded(chosen, AlwaysModel(scenario, 1))
    delivered = Delivered(config, catalogue_of(scenario), loaded, NO_DIGEST)
    running = RunningRouter(delivered, token=token, decisions=decisions)
    with patient():
        await running.start()
        it = Rig(running, *running.ports, engines)
        try:
            yield it
        finally:
            for client in it.clients:
                client.close()
            await running.close()
            for engine in engines:
                await engine.stop()
            await asyncio.sleep(0.01)
