"""One exchange: a client's request from its decision to the answer's last byte, whichever engines it takes.

It holds the present attempt's lease, ties the two connections' back-pressure together, and has a single end, whichever
way it ends. Until a byte was relayed, an attempt that failed may be followed by another, at another engine.
"""

import asyncio
import time

from bes_router.backends import Backend
from bes_router.ejection import Sample
from bes_router.endings import LastWords, last_words
from bes_router.errors import Reason, UpstreamError
from bes_router.http1 import RequestHead
from bes_router.lease import Lease
from bes_router.parties import Client, Failure, Outcome
from bes_router.policy.layout import RoutingRequest
from bes_router.prompt_ratio import TAIL_BYTES
from bes_router.upstream import UpstreamConnection
from bes_router.words import Words

REFUSALS = frozenset({429, 502, 503, 504})
"""Answers by which an engine says that it did not do the work: held until it is known that nobody else will."""
MAX_HELD_BYTES = 64 * 1024
HELD_SECONDS = 1.0
"""So long the rest of a refusal may take."""


class Exchange:
    """See the module. Times are seconds on the monotonic clock; ``arrival`` is when the body's last byte was read."""

    __slots__ = (
        "_client",
        "_connect_timeout",
        "_connecting",
        "_ended",
        "_first_failure",
        "_framing",
        "_held",
        "_last",
        "_paused",
        "_upstream",
        "arrival",
        "backend",
        "body",
        "characters",
        "decision",
        "explanation",
        "first_byte_at",
        "head",
        "lease",
        "outcome",
        "request",
        "retried_for",
        "routing",
        "sample",
        "status",
        "touched",
        "tried",
        "words",
    )

    backend: Backend
    lease: Lease

    def __init__(
        self,
        client: Client,
        outcome: Outcome,
        words: Words,
        routing: RoutingRequest,
        head: RequestHead,
        body: bytes,
        arrival: float,
    ) -> None:
        """Whoever decides sets ``backend``, ``lease``, ``request`` and ``explanation`` before the start.

        An attempt may be decided by another configuration than the one before it: that is the ``outcome`` from then on.
        """
        self._client = client
        self.outcome = outcome
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connect_timeout = 0.0
        self._ended = False
        self._paused = False
        self._held: tuple[int, bytes, bool, list[bytes]] | None = None  # a refusal that is not whole yet
        self._first_failure: Failure | None = None
        self._framing = b""  # the relayed head
        self._last = b""  # relayed lately, or kept for `usage`
        self.words = words
        self.routing = routing
        self.head = head
        self.body = body
        self.arrival = arrival
        self.characters = 0  # of the prompt, where `usage` is to be seen
        self.tried: list[Backend] = []  # engines that gave nothing
        self.retried_for = ""  # why the attempt before the present one gave nothing
        self.decision = 0
        self.request = b""
        self.explanation = b""
        self.sample: Sample | None = None
        self.status = 0  # of what was relayed; 0: nothing yet
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
            self._try_again(
                Failure(UpstreamError(Reason.CONNECT, f"backend {backend.label} cannot be reached: {error}"))
            )
            return
        self._connecting = None
        self.touched = time.monotonic()
        self._use(upstream)

    def _use(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.send(self.request, self)
        if self._paused:
            upstream.pause()

    def on_head(self, status: int, head: bytes, until_close: bool, data: bytes, now: float) -> None:
        """Relay the head, the router's own fields behind the engine's, and the first bytes; or hold a refusal."""
        self.touched = now
        if status in REFUSALS:
            self._held = (status, head + self.explanation, until_close, [data])
            return
        self.status = status
        self._framing = head
        if data:
            self._last = data
            self.first_byte_at = now
            if self.words.asked.stream:
                self.outcome.first_byte(self, now)
        self._client.begin(head + self.explanation, until_close, data)

    def on_data(self, data: bytes, now: float) -> None:
        """Relay raw bytes."""
        self.touched = now
        if self._held is not None:
            self._hold(self._held[3], data)
            return
        if not self.first_byte_at:
            self.first_byte_at = now
            if self.words.asked.stream:
                self.outcome.first_byte(self, now)
        if self.characters and len(data) < TAIL_BYTES:
            self._last = self._last[-TAIL_BYTES:] + data
        else:
            self._last = data
        self._client.write(data)

    def _hold(self, parts: list[bytes], data: bytes) -> None:
        parts.append(data)
        if sum(map(len, parts)) > MAX_HELD_BYTES:
            self._try_again(Failure(UpstreamError(Reason.ENGINE_FAILED, "the engine refused at too great length")))

    def on_complete(self, now: float) -> None:
        """End well; or, where the engine refused, try elsewhere."""
        self._upstream = None
        if self._held is not None:
            status, head, until_close, parts = self._held
            error = UpstreamError(Reason.ENGINE_FAILED, f"the engine answered {status}")
            self._try_again(Failure(error, status, head, until_close, b"".join(parts)))
        elif self._end():
            if self.characters and self.status == 200:
                self.outcome.usage_seen(self, self._last[-TAIL_BYTES:])
            self.outcome.ended(self, now)
            self._client.complete(now)

    def on_broken(self, error: UpstreamError, stale: bool) -> None:
        """End badly; on a kept connection that the engine had closed meanwhile, connect once instead."""
        if stale and not self._ended:
            self._upstream = None
            self._dial()
        elif self.status:
            self._break_off(error)
        else:
            self._try_again(Failure(error))

    def _try_again(self, failure: Failure) -> None:
        """Go on at another engine, if there is one and time; else the client hears of the first failure."""
        if self._ended:
            return
        self._drop_upstream()
        self._held = None
        self.lease.release()
        now = time.monotonic()
        first = self._first_failure = self._first_failure or failure
        if self.outcome.again(self, failure, now):
            self.touched = now
            self.start(self._connect_timeout)
        else:
            self._give_up(first, now)

    def _give_up(self, failure: Failure, now: float) -> None:
        """Answer with a failure: the engine's own words, where it had some."""
        if not self._end():
            return
        self._drop_upstream()
        self.status = failure.status
        self.outcome.gave_up(self, failure.error.reason, now)
        if failure.status:
            self._client.begin(failure.head, failure.until_close, failure.data)
            self._client.complete(now)
        else:
            self._client.refuse(failure.error)

    def _break_off(self, error: UpstreamError) -> None:
        """End in the middle of an answer. Where a stream's framing shows it, an event says why first."""
        if not self._end():
            return
        words = self._last_words(error)
        self._drop_upstream()
        self.outcome.failed(self, error.reason, time.monotonic())
        self._client.cut(words.event if words is not None and words.end else b"")

    def _last_words(self, error: UpstreamError) -> LastWords | None:
        whole = self._upstream is not None and self._upstream.between_chunks
        return last_words(self._framing, self._last, whole, error)

    def expire(self, reason: Reason) -> None:
        """Cut it off: the engine was silent for too long, the client takes nothing, or the router stops."""
        error = UpstreamError(reason, "the request was cut off by the router")
        if self.status:
            self._break_off(error)
        elif reason is Reason.SILENT:
            self._try_again(Failure(error))
        else:
            self._give_up(Failure(error), time.monotonic())

    def miss(self, now: float) -> None:
        """The deadline has passed and nothing can be earned any more: stop the engine's work and say so."""
        if not self._end():
            return
        error = UpstreamError(Reason.DEADLINE, "the deadline passed before the answer was complete")
        words = self._last_words(error) if self.status else None
        self._drop_upstream()
        self.outcome.missed(self, now)
        if not self.status:
            self._client.refuse(error)
        elif words is None:
            self._client.cut()
        else:
            self._client.write(words.event + words.end)
            self._client.complete(now)

    def client_gone(self) -> None:
        """The client has closed its connection: stop the engine's work."""
        if self._end():
            self._drop_upstream()
            self.outcome.failed(self, Reason.CLIENT_GONE, time.monotonic())

    def sweep(self, now: float, timeout: float) -> None:
        """Notice that the engine (or the client, if it takes nothing) has been silent for more than ``timeout``."""
        silent = now - self.touched
        if silent > timeout or (self._held is not None and silent > HELD_SECONDS):
            self.expire(Reason.CLIENT_STALLED if self._paused else Reason.SILENT)

    def pause(self) -> None:
        """The client's buffer is full: read nothing more from the engine."""
        self._paused = True
        self.outcome.paused(self)
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """The client takes bytes again."""
        self._paused = False
        self.touched = time.monotonic()
        if self._upstream is not None:
            self._upstream.resume()

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
        self.request = self.body = b""
        self.lease.release()
        return True
