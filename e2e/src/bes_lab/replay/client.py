"""A lean HTTP/1.1 client for an open loop: every request leaves at its instant, on an idle connection or a new one.

It notes instants and what the answer says of itself; judging them is not its business.
"""

import asyncio
import gc
import math
import resource
import socket
import time
from collections.abc import Sequence
from typing import cast

import httptools
import orjson
import psutil
import uvloop

from bes_lab.errors import TargetError
from bes_lab.replay.measured import UNANSWERED, Measured, Target

MAX_CONNECTIONS = 8192
WARM_CONNECTIONS = 128
IDLE_SECONDS = 15.0
CONNECT_SECONDS = 5.0
"""For each connection opened beforehand: a silent address would otherwise hold us up for minutes."""
_LEAD_SECONDS = 0.25


def send_all(
    urls: Sequence[str],
    due: Sequence[float],
    bodies: Sequence[bytes],
    drain_seconds: float,
    warm: int = WARM_CONNECTIONS,
    to: Sequence[int] | None = None,
) -> Measured:
    """POST ``bodies[i]`` at second ``due[i]`` (ascending); wait at most ``drain_seconds`` after the last one.

    Request i goes to ``urls[to[i]]``, all of them to the first where ``to`` is None.
    """
    targets = [Target.of(url) for url in urls]
    _raise_open_files()
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection in mid-run would be lateness of ours
    try:
        return uvloop.run(_send_all(targets, due, bodies, drain_seconds, warm, to or [0] * len(due)))
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 256 if hard == resource.RLIM_INFINITY else min(hard, MAX_CONNECTIONS + 256)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _send_all(
    targets: Sequence[Target],
    due: Sequence[float],
    bodies: Sequence[bytes],
    drain_seconds: float,
    warm: int,
    to: Sequence[int],
) -> Measured:
    run = _Run(targets, list(due), bodies, to)
    await run.warm_up(warm)
    cpu = time.process_time()
    load = asyncio.ensure_future(_watch_machine())
    run.begin()
    last = due[-1] if len(due) else 0.0
    try:
        async with asyncio.timeout(_LEAD_SECONDS + last + drain_seconds):
            await run.complete.wait()
    except TimeoutError:
        pass
    seconds = time.process_time() - cpu
    load.cancel()
    run.close()
    (machine,) = await asyncio.gather(load, return_exceptions=True)
    samples = machine if isinstance(machine, list) else []
    return Measured(run.due, run.sent, run.first_byte, run.done, run.status, run.model, seconds, samples)


async def _watch_machine() -> list[float]:
    samples: list[float] = []
    psutil.cpu_percent(None)
    try:
        while True:
            await asyncio.sleep(1.0)
            samples.append(psutil.cpu_percent(None) / 100.0)
    except asyncio.CancelledError:
        return samples


class _Run:
    """The state of one replay."""

    def __init__(self, targets: Sequence[Target], due: list[float], bodies: Sequence[bytes], to: Sequence[int]) -> None:
        count = len(due)
        self.targets = targets
        self.due = due
        self.sent = [math.nan] * count
        self.first_byte = [math.nan] * count
        self.done = [math.nan] * count
        self.status = [UNANSWERED] * count
        self.model = [""] * count
        self.complete = asyncio.Event()
        self.idle: list[list[_Connection]] = [[] for _ in targets]
        self.start = math.nan
        self._bodies = bodies
        self._to = to
        self._heads: dict[tuple[int, int], bytes] = {}
        self._next = 0
        self._left = count
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def warm_up(self, connections: int) -> None:
        """Open some connections beforehand, shared evenly; also the check that somebody listens everywhere."""
        each = -(-connections // len(self.targets))
        for number, target in enumerate(self.targets):
            for _ in range(each):
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        connection = await self._connect(number)
                except OSError as error:  # TimeoutError is one
                    reason = str(error) or f"no connection within {CONNECT_SECONDS:g} s"
                    raise TargetError(f"http://{target.host}:{target.port}: nobody listens ({reason})") from None
                self.idle[number].append(connection)

    async def _connect(self, number: int) -> "_Connection":
        target = self.targets[number]
        _, connection = await self._loop.create_connection(lambda: _Connection(self, number), target.host, target.port)
        return connection

    def begin(self) -> None:
        """Start the clock."""
        if not self.due:
            self.complete.set()
            return
        self.start = time.monotonic() + _LEAD_SECONDS
        self._tick()

    def close(self) -> None:
        """Drop every connection."""
        for task in self._opening:
            task.cancel()
        for connection in tuple(self._open):
            connection.abort()

    def now(self) -> float:
        """Seconds from the start."""
        return time.monotonic() - self.start

    def message(self, index: int) -> bytes:
        """The whole request ``index`` as bytes."""
        body, number = self._bodies[index], self._to[index]
        head = self._heads.get((number, len(body)))
        if head is None:
            target = self.targets[number]
            head = (
                f"POST {target.path} HTTP/1.1\r\nhost: {target.host}:{target.port}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            ).encode()
            self._heads[number, len(body)] = head
        return head + body

    def finish(self, index: int, status: int) -> None:
        """Request ``index`` is over."""
        self.status[index] = status
        self._left -= 1
        if self._left == 0:
            self.complete.set()

    def opened(self, connection: "_Connection") -> None:
        """Keep track for the end."""
        self._open.add(connection)

    def closed(self, connection: "_Connection") -> None:
        """It is of no use any more."""
        self._open.discard(connection)
        if connection in self.idle[connection.target]:
            self.idle[connection.target].remove(connection)

    def send(self, index: int) -> None:
        """Send on an idle connection, or on a new one: an open loop never waits for one to become idle."""
        idle = self.idle[self._to[index]]
        while idle:
            connection = idle.pop()
            if connection.usable:
                connection.send(index)
                return
            connection.abort()
        if len(self._open) + len(self._opening) >= MAX_CONNECTIONS:
            self.finish(index, UNANSWERED)
            return
        task = self._loop.create_task(self._open_and_send(index))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_and_send(self, index: int) -> None:
        try:
            connection = await self._connect(self._to[index])
        except OSError:
            self.finish(index, UNANSWERED)
            return
        connection.send(index)

    def _tick(self) -> None:
        due, index, count = self.due, self._next, len(self.due)
        while index < count and due[index] <= self.now():
            self.sent[index] = self.now()
            self.send(index)
            index += 1
        self._next = index
        if index < count:
            # Loop timers tick in milliseconds: round up, so that nothing leaves early and nothing spins.
            self._loop.call_later(math.ceil(max(0.0, due[index] - self.now()) * 1e3) / 1e3, self._tick)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, run: _Run, target: int) -> None:
        self.target = target
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._index = -1
        self._idle_since = time.monotonic()
        self._got_byte = False
        self._named = False
        self._body: list[bytes] = []

    @property
    def usable(self) -> bool:
        """Whether a request can still be sent on it; a server may be about to close what was idle for long."""
        if self._transport is None or self._transport.is_closing():
            return False
        return time.monotonic() - self._idle_since < IDLE_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Small requests must leave at once."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._run.opened(self)

    def send(self, index: int) -> None:
        """Send request ``index``."""
        self._index = index
        self._got_byte = False
        self._named = False
        self._body.clear()
        if self._transport is not None:
            self._transport.write(self._run.message(index))

    def abort(self) -> None:
        """Drop it at once."""
        self._index = -1
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; an answer that it cannot read ends the connection."""
        if self._index >= 0 and not self._got_byte:
            self._got_byte = True
            self._run.first_byte[self._index] = self._run.now()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """A request on it had no answer. It is not sent again: the server may have begun with it."""
        self._run.closed(self)
        self._transport = None
        index, self._index = self._index, -1
        if index >= 0:
            self._run.finish(index, UNANSWERED)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: only the model's name matters."""
        if len(name) == 11 and name.lower() == b"x-bes-model" and self._index >= 0:
            self._run.model[self._index] = value.decode("latin-1")
            self._named = True

    def on_body(self, body: bytes) -> None:
        """httptools: the body is read only where no header names the model."""
        if not self._named:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the answer is complete."""
        run, index = self._run, self._index
        status = self._parser.get_status_code()
        if index < 0 or status < 200:  # 1xx: the answer is still to come
            return
        run.done[index] = run.now()
        if not self._named and status == 200:
            run.model[index] = _model_of(b"".join(self._body))
        self._index = -1
        self._idle_since = time.monotonic()
        run.finish(index, status)
        if not self._parser.should_keep_alive():
            if self._transport is not None:
                self._transport.close()
        elif self.usable:
            run.idle[self.target].append(self)


def _model_of(body: bytes) -> str:
    """The `model` of a whole answer, or of the first event of a stream."""
    if body.startswith(b"data: "):
        body = body[6:].partition(b"\n")[0]
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("model", "")) if isinstance(document, dict) else ""
