"""A closed-loop load generator: so many connections, each sends its next request when the last is answered.

It measures what a proxy costs, not what a service does under load: that is `bes replay`, which is open loop.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import httptools


@dataclass(frozen=True)
class Load:
    """What was sent and how long the answers took, in seconds."""

    requests: int
    seconds: float
    latency: list[float]
    first_byte: list[float]
    failures: int


@dataclass
class _Budget:
    """How many requests may still be sent, shared by all connections."""

    left: int
    failures: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, budget: _Budget, load: Load, done: asyncio.Future[None]) -> None:
        self.request = request
        self.budget = budget
        self.load = load
        self.done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        if self.budget.left <= 0:
            self.transport.close()
            return
        self.budget.left -= 1
        self.parser = httptools.HttpResponseParser(self)
        self.first = 0.0
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, _body: bytes) -> None:
        if not self.first:
            self.first = time.perf_counter()

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self.parser.get_status_code() == 200:
            self.load.latency.append(now - self.sent)
            self.load.first_byte.append(self.first - self.sent)
        else:
            self.budget.failures += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or self.budget.left > 0:
            self.budget.failures += 1
        if not self.done.done():
            self.done.set_result(None)


def completion_request(port: int, stream: bool) -> bytes:
    """A small completions request with the bytes that a client library sends."""
    body = (
        b'{"model":"lambada","prompt":"'
        + b"word " * 24
        + b'","max_tokens":16'
        + (b',"stream":true' if stream else b"")
        + b"}"
    )
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\naccept-encoding: identity\r\n"
        b"user-agent: bes-bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (port, len(body)) + body


async def drive(port: int, connections: int, requests: int, *, stream: bool = False) -> Load:
    """Send ``requests`` over ``connections`` kept-alive connections to 127.0.0.1 and wait for all the answers."""
    loop = asyncio.get_running_loop()
    load = Load(requests, 0.0, [], [], 0)
    budget = _Budget(requests)
    request = completion_request(port, stream)
    ends: list[asyncio.Future[None]] = []
    started = time.perf_counter()
    for _ in range(connections):
        end = loop.create_future()
        ends.append(end)
        await loop.create_connection(lambda end=end: _Connection(request, budget, load, end), "127.0.0.1", port)  # type: ignore[misc]  # mypy cannot infer a lambda's default
    await asyncio.wait_for(asyncio.gather(*ends), timeout=120)
    seconds = time.perf_counter() - started
    return Load(requests, seconds, load.latency, load.first_byte, budget.failures)
