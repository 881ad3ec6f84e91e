"""The client's side of a connection: reads requests, one at a time, and writes what an exchange or the router answers.

It knows HTTP/1.1 framing, limits and timeouts, and nothing of tasks, models or policies.
"""

import asyncio
import re
import time
from typing import Protocol, cast

from bes_api.router_config import Limits
from bes_router import http1
from bes_router.endings import refusal
from bes_router.errors import MalformedMessageError, Reason, UpstreamError
from bes_router.http1 import HEAD_END, ChunkedBody, HeadCache, RequestHead
from bes_router.openai import error_body
from bes_router.relay import Exchange
from bes_router.upstream import no_delay, reset_when_closed

LINGER_SECONDS = 1.0  # a refused client may still be sending: closing at once would reset away the answer
NEVER = float("inf")
PROBES = 3  # of a client that has closed its side: has it left, or does it wait?
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")


class Service(Protocol):
    """What answers whole requests."""

    limits: Limits
    heads: HeadCache

    @property
    def draining(self) -> bool:
        """Whether every connection is to be closed after its answer."""
        ...

    def handle(
        self, connection: "ClientConnection", head: RequestHead, body: bytes, arrival: float
    ) -> "bytes | Exchange":
        """A whole answer, or an exchange that has the connection's `begin`, `write` ... called; it is not started."""
        ...

    def opened(self, connection: "ClientConnection") -> None:
        """A client has connected."""

    def closed(self, connection: "ClientConnection") -> None:
        """A client's connection is gone."""

    def malformed(self, reason: Reason) -> None:
        """A message was refused before it was a request."""


class ClientConnection(asyncio.Protocol):
    """One client. At any time it reads a request, waits for one exchange, or lingers before it closes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: RequestHead | None = None
        self._parts: list[bytes] = []
        self._missing = 0  # bytes of the body still to come
        self._chunks: ChunkedBody | None = None
        self._lingering = False
        self._closing = False  # close after the answer being written
        self._reading_paused = False
        self._eof = False  # the client sends nothing more
        self._probes = 0
        self.exchange: Exchange | None = None
        self.writable = True
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register, with Nagle's algorithm off."""
        self._transport = cast(asyncio.Transport, transport)
        no_delay(transport)
        self.deadline = time.monotonic() + self._service.limits.idle_timeout_seconds
        self._service.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it went, it is gone
        """End the exchange in progress: nobody waits for it any more."""
        self._transport = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()
        self._service.closed(self)

    def eof_received(self) -> bool:
        """Stay while an answer is owed: a client may close its side after its last request and still read (half-close).

        One that has left altogether looks the same, until something is written to it: an interim answer, which every
        client has to skip (RFC 9110, 15.2), brings a reset back from where nobody reads, and the engine can stop.
        """
        if self._lingering or (self.exchange is None and (self.writable or not self._buffer)):
            return False
        self._eof = True
        self._probe()
        return True

    def _probe(self) -> None:
        if self.exchange is not None and not self.exchange.status and self.writable and self._probes < PROBES:
            self._probes += 1
            self.write(http1.CONTINUE)

    def data_received(self, data: bytes) -> None:
        """Read on, or keep bytes of the next request until the present one is answered and the answer is taken."""
        if self._lingering:
            return
        if self.exchange is not None or not self.writable:
            self._buffer += data
            if len(self._buffer) > self._service.limits.max_head_bytes and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
            return
        first = self._head is None and not self._buffer
        self._buffer = self._buffer + data if self._buffer else data
        self._read()
        if first and self._buffer and self._head is None and self.exchange is None and not self._lingering:
            self.deadline = time.monotonic() + self._service.limits.head_timeout_seconds

    def pause_writing(self) -> None:
        """The client takes nothing more: stop reading from the engine."""
        self.writable = False
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        """The client takes bytes again: read on from the engine, or what the client asked meanwhile."""
        self.writable = True
        if self.exchange is not None:
            self.exchange.resume()
        elif not self._lingering:
            self._resume_reading()
            self._read_on()

    def _read_on(self) -> None:
        """Read what came while an answer was written; close where nothing whole is left and nothing will come."""
        if self._buffer and self._transport is not None:
            self._read()
        if (
            self._eof
            and self.exchange is None
            and self.writable
            and not self._lingering
            and self._transport is not None
        ):
            self._lingering = True
            self._transport.close()

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def _read(self) -> None:
        """Answer every whole request in the buffer, until one needs an exchange, bytes are missing or nobody reads."""
        try:
            while self.exchange is None and self.writable and not self._lingering and self._transport is not None:
                if self._head is None and not self._read_head():
                    return
                body = self._read_body()
                if body is None:
                    return
                self._dispatch(body)
        except MalformedMessageError as error:
            self._service.malformed(error.reason)
            body = error_body(error.status, str(error), code=error.reason)
            self.refuse_connection(http1.response(error.status, body, close=True))

    def _read_head(self) -> bool:
        limits = self._service.limits
        if self._buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request is ignored
            self._buffer = _EMPTY_LINES.sub(b"", self._buffer)  # all at once: a flood of them must cost little
        end = self._buffer.find(HEAD_END)
        if end > limits.max_head_bytes or (end < 0 and len(self._buffer) > limits.max_head_bytes):
            raise MalformedMessageError(
                f"the head is larger than {limits.max_head_bytes} bytes; send less", 431, Reason.TOO_LARGE
            )
        if end < 0:
            http1.refuse_bare_line_ends(self._buffer)
            return False
        end += len(HEAD_END)
        head, length = self._service.heads.parse(self._buffer[:end])
        if length > limits.max_body_bytes:
            raise MalformedMessageError(
                f"the body is larger than {limits.max_body_bytes} bytes; send less", 413, Reason.TOO_LARGE
            )
        self._buffer = self._buffer[end:]
        self._head = head
        self._missing = length
        self._chunks = ChunkedBody(limits.max_body_bytes) if head.chunked else None
        if self._missing > len(self._buffer) or head.chunked:
            self.deadline = time.monotonic() + limits.body_timeout_seconds
            if head.expects_continue and not self._buffer:
                self.write(http1.CONTINUE)
        return True

    def _read_body(self) -> bytes | None:
        """The body once it is whole; what follows it stays in the buffer."""
        data, self._buffer = self._buffer, b""
        if self._chunks is not None:
            if not data:
                return None
            rest = self._chunks.feed(data)
            if rest is None:
                return None
            self._buffer = rest
            return self._chunks.payload
        if len(data) < self._missing:
            self._missing -= len(data)
            self._parts.append(data)
            return None
        if len(data) > self._missing:
            data, self._buffer = data[: self._missing], data[self._missing :]
        if not self._parts:
            return data
        body = b"".join((*self._parts, data))
        self._parts.clear()
        return body

    def _dispatch(self, body: bytes) -> None:
        head, self._head, self._chunks = cast(RequestHead, self._head), None, None
        arrival = time.monotonic()
        self._closing = not head.keep_alive or self._service.draining or (self._eof and not self._buffer)
        answer = self._service.handle(self, head, body, arrival)
        if isinstance(answer, bytes):
            self.write(answer)
            self._next(arrival)
            return
        self.exchange = answer
        self.deadline = NEVER
        if not self.writable:
            answer.pause()
        answer.start(self._service.limits.connect_timeout_seconds)

    def answer(self, status: int, body: bytes, headers: tuple[http1.Header, ...] = ()) -> bytes:
        """An answer of the router's own, which closes the connection where the request or the router wants that."""
        return http1.response(status, body, headers, close=self._closing)

    def begin(self, head: bytes, must_close: bool, data: bytes) -> None:
        """Write the head and the first bytes of an engine's answer."""
        if must_close or self._service.draining or (self._eof and not self._buffer):
            self._closing = True
        self.write(b"%b%b%b" % (head, b"\r\nconnection: close\r\n\r\n" if self._closing else HEAD_END, data))

    def write(self, data: bytes) -> None:
        """Write to the client, if it is still there."""
        if self._transport is not None:
            self._transport.write(data)

    def complete(self, now: float) -> None:
        """The exchange's answer is written: read the next request."""
        self.exchange = None
        self._next(now)
        if self._buffer or self._eof:
            self._read_on()

    def refuse(self, error: UpstreamError) -> None:
        """Answer 503, or 504 for what took too long, instead of the exchange."""
        self._closing = self._closing or self._service.draining or (self._eof and not self._buffer)
        self.write(self.answer(*refusal(error)))
        self.complete(time.monotonic())

    def cut(self, last: bytes = b"") -> None:
        """Close so that half an answer cannot be taken for a whole one: by a reset, or after the bytes ``last``."""
        exchange, self.exchange = self.exchange, None
        if self._transport is None:
            return
        if last:  # of a chunked stream: it lacks its end, however it closes
            self._transport.write(last)
            self._closing = True
            self._next(time.monotonic())
            return
        if exchange is not None:  # an answer may end with EOF, and abort alone looks like one
            reset_when_closed(self._transport)
        self._transport.abort()

    def _next(self, now: float) -> None:
        if self._transport is None:
            return
        if self._closing:
            self.deadline = now + self._service.limits.response_timeout_seconds
            self._lingering = True
            self._transport.close()
            return
        self._resume_reading()
        self.deadline = now + self._service.limits.idle_timeout_seconds

    def refuse_connection(self, answer: bytes) -> None:
        """Write a last answer and close once the client has read it, dropping whatever else it sends meanwhile."""
        self._lingering = True
        self._buffer = b""
        self.deadline = time.monotonic() + LINGER_SECONDS
        self.write(answer)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def sweep(self, now: float) -> None:
        """Enforce the timeouts; called about twice a second."""
        exchange = self.exchange
        if exchange is not None:
            exchange.sweep(now, self._service.limits.response_timeout_seconds)
            if self._eof:
                self._probe()
        elif now > self.deadline:
            if self._lingering:
                self.cut()
            elif self._head is None and not self._buffer:
                self.close_idle()
            elif self._transport is not None:
                self._service.malformed(Reason.TIMEOUT)
                body = error_body(408, "the request did not arrive in time; send it at once", code=Reason.TIMEOUT)
                self.refuse_connection(http1.response(408, body, close=True))

    def close_idle(self, before: float = NEVER) -> None:
        """Close, if no request is being read or answered, nor was since ``before``; else it closes after its answer."""
        idle = self.exchange is None and self._head is None and not self._buffer
        if idle and self.deadline - self._service.limits.idle_timeout_seconds < before and self._transport is not None:
            self._lingering = True
            self._transport.close()
