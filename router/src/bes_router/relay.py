"""One exchange: a client's request at one engine, from the decision to the answer's last byte.

It holds the lease, ties the two connections' back-pressure together, and has a single end, whichever way it ends.
"""

import asyncio
import time
from typing import Protocol

from bes_router.backends import Backend
from bes_router.errors import Reason, UpstreamError
from bes_router.lease import Lease
from bes_router.upstream import UpstreamConnection


class Client(Protocol):
    """The client's side of an exchange."""

    @property
    def writable(self) -> bool:
        """False while the client takes nothing."""
        ...

    def begin(self, head: bytes, must_close: bool, data: bytes) -> None:
        """Write an answer's head (it lacks its empty line) and first bytes; ``must_close``: its end is EOF."""

    def write(self, data: bytes) -> None:
        """Write raw bytes of the answer."""

    def complete(self, now: float) -> None:
        """The answer is written; the next request may be read."""

    def refuse(self, error: UpstreamError) -> None:
        """Nothing of an answer was written yet: write the router's own."""

    def cut(self) -> None:
        """Close in the middle of an answer, so that the client cannot take it for whole."""


class Outcome(Protocol):
    """Where an exchange reports to; exactly one of `ended` and `failed`, once."""

    def first_byte(self, exchange: "Exchange", now: float) -> None:
        """The first byte of a successful answer's body has come."""

    def ended(self, exchange: "Exchange", now: float) -> None:
        """The engine's answer is complete, whatever its status."""

    def failed(self, exchange: "Exchange", reason: Reason, now: float) -> None:
        """There is no (whole) answer."""


class Exchange:
    """See the module. Times are seconds on the monotonic clock; ``arrival`` is when the body's last byte was read."""

    __slots__ = (
        "_client",
        "_connect_timeout",
        "_connecting",
        "_ended",
        "_outcome",
        "_paused",
        "_request",
        "_upstream",
        "arrival",
        "backend",
        "explanation",
        "first_byte_at",
        "lease",
        "status",
        "stream",
        "task",
        "touched",
    )

    def __init__(
        self,
        client: Client,
        outcome: Outcome,
        backend: Backend,
        lease: Lease,
        *,
        request: bytes,
        task: int,
        arrival: float,
        stream: bool,
        explanation: bytes,
    ) -> None:
        self._client = client
        self._outcome = outcome
        self._request = request  # kept until the first byte of the answer, for a connection found stale
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connect_timeout = 0.0
        self._ended = False
        self._paused = False
        self.backend = backend
        self.lease = lease
        self.task = task
        self.arrival = arrival
        self.stream = stream
        self.explanation = explanation
        self.status = 0
        self.first_byte_at = 0.0
        self.touched = arrival

    def start(self, connect_timeout: float) -> None:
        """Send the request on a kept connection, or on a new one."""
        self._connect_timeout = connect_timeout
        kept = self.backend.take()
        if kept is None:
            self._dial()
        else:
            self._use(kept)

    def _dial(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        backend = self.backend
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, upstream = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(backend), backend.address, backend.port
                )
        except (OSError, TimeoutError) as error:
            self._connecting = None
            backend.mark(False)
            self._fail(UpstreamError(Reason.CONNECT, f"backend {backend.label} cannot be reached: {error}"))
            return
        self._connecting = None
        self.touched = time.monotonic()
        self._use(upstream)

    def _use(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.send(self._request, self)
        if self._paused:
            upstream.pause()

    def on_head(self, status: int, head: bytes, until_close: bool, data: bytes, now: float) -> None:
        """Relay the head, the router's own fields behind the engine's, and the first bytes."""
        self._request = b""
        self.status = status
        self.touched = now
        if data:
            self.first_byte_at = now
            self._outcome.first_byte(self, now)
        self._client.begin(head + self.explanation, until_close, data)

    def on_data(self, data: bytes, now: float) -> None:
        """Relay raw bytes."""
        self.touched = now
        if not self.first_byte_at:
            self.first_byte_at = now
            self._outcome.first_byte(self, now)
        self._client.write(data)

    def on_complete(self, now: float) -> None:
        """End well."""
        self._upstream = None
        if self._end():
            self._outcome.ended(self, now)
            self._client.complete(now)

    def on_broken(self, error: UpstreamError, stale: bool) -> None:
        """End badly; on a kept connection that the engine had closed meanwhile, connect once instead."""
        self._upstream = None
        if stale and not self._ended:
            self._dial()
            return
        self._fail(error)

    def expire(self, reason: Reason) -> None:
        """Cut it off: the engine was silent for too long, the client takes nothing, or the router stops."""
        self._fail(UpstreamError(reason, "the request was cut off by the router"))

    def client_gone(self) -> None:
        """The client has closed its connection: stop the engine's work."""
        if self._end():
            self._drop_upstream()
            self._outcome.failed(self, Reason.CLIENT_GONE, time.monotonic())

    def pause(self) -> None:
        """The client's buffer is full: read nothing more from the engine."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """The client takes bytes again."""
        self._paused = False
        self.touched = time.monotonic()
        if self._upstream is not None:
            self._upstream.resume()

    @property
    def paused(self) -> bool:
        """Whether the client is what the exchange waits for."""
        return self._paused

    def _fail(self, error: UpstreamError) -> None:
        if not self._end():
            return
        self._drop_upstream()
        self._outcome.failed(self, error.reason, time.monotonic())
        if self.status:
            self._client.cut()
        else:
            self._client.refuse(error)

    def _drop_upstream(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.abandon()
            self._upstream = None

    def _end(self) -> bool:
        """The single end: gives the lease back. False if it had ended before."""
        if self._ended:
            return False
        self._ended = True
        self._request = b""
        self.lease.release()
        return True
