"""One connection to an engine: sends a request, tells an exchange what comes back, and knows where the answer ends.

Bytes of an answer are handed on as they came; httptools reads along only to find the head and the end.
"""

import asyncio
import re
import socket
import struct
import time
from itertools import count
from typing import Protocol, cast

import httptools

from bes_router.backends import Backend
from bes_router.errors import Reason, UpstreamError
from bes_router.http1 import HEAD_END

MAX_HEAD_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})")
_BODYLESS = frozenset({204, 304})
_ENDLESS = 1 << 62
_LINGER_NOT = struct.pack("ii", 1, 0)
_NOT_RELAYED = (b"\r\nconnection:", b"\r\nkeep-alive:", b"\r\nproxy-connection:")


class Answered(Protocol):
    """Whoever waits for the answer. After `on_complete` or `on_broken` nothing more is told."""

    def on_head(self, status: int, head: bytes, until_close: bool, data: bytes, now: float) -> None:
        """The head, without its last empty line and without connection fields, and what of the body came with it.

        ``until_close``: the answer's end is EOF. ``now``, here and below, is when the bytes were read.
        """

    def on_data(self, data: bytes, now: float) -> None:
        """Raw bytes of the body, in the answer's own framing."""

    def on_complete(self, now: float) -> None:
        """The answer has arrived to its last byte."""

    def on_broken(self, error: UpstreamError, stale: bool) -> None:
        """No (whole) answer will come. ``stale``: a kept connection had been closed before this request reached it."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to ``backend`` that serves one request at a time and returns to the backend's idle list."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._waiting: Answered | None = None
        self._used = False
        self._paused = False
        # httptools' callbacks, once per chunk of a stream: counters' own methods cost a third of functions of ours.
        self._chunks_begun, self._chunks_ended = count(), count()
        self.on_chunk_header, self.on_chunk_complete = self._chunks_begun.__next__, self._chunks_ended.__next__
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._raw = b""  # the head's bytes until it is whole
        self._head_done = False
        self._head_told = False
        self._messages = 0
        self._complete = False
        self._keep = False
        self._framings = 0  # content-length and transfer-encoding fields seen
        self._left = _ENDLESS  # bytes of the body still to come, where the head says how many
        self._tail = b""  # the last bytes of a chunked body
        self._status = 0
        self._interims = 0  # 1xx answers before the one that counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Switch Nagle's algorithm off: a small write must not wait for the engine's delayed ACK."""
        self._transport = cast(asyncio.Transport, transport)
        no_delay(transport)

    def send(self, request: bytes, waiting: Answered) -> None:
        """Send a whole request; ``waiting`` hears of the answer."""
        if self._used:
            self._reset()
        self._waiting = waiting
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(request)
        # else: connection_lost is on its way and reports a stale connection

    @property
    def between_chunks(self) -> bool:
        """Whether no chunk is begun and not ended, as far as their size lines are whole."""
        return next(self._chunks_begun) == next(self._chunks_ended)

    def pause(self) -> None:
        """Stop reading from the engine: the client takes nothing more for now."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def abandon(self) -> None:
        """Cut the connection in the middle of an answer, so that the engine stops working on it."""
        self._waiting = None
        if self._transport is not None:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """Count messages (httptools' callback): a second one was never asked for."""
        self._messages += 1

    def on_headers_complete(self) -> None:
        """Note the head's end and what it says of the connection (httptools' callback; forgotten after the end)."""
        self._status = status = self._parser.get_status_code()
        if status >= 200:
            self._head_done = True
            self._keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Note the answer's end; one of 1xx is none, another comes (httptools' callback; RFC 9110, 15.2)."""
        if self._head_done:
            self._complete = True
        else:
            self._messages -= 1
            self._interims += 1

    def data_received(self, data: bytes) -> None:
        """Hand bytes on; end the answer where its framing says so."""
        now = time.monotonic()
        waiting = self._waiting
        if waiting is None:
            self.abandon()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(Reason.BAD_RESPONSE, f"the engine's answer is not HTTP/1.1: {error}")
            return
        if self._messages > 1:
            self._break(Reason.BAD_RESPONSE, "the engine sent more than one answer")
            return
        if not self._head_told:
            self._raw += data
            if not self._head_done:
                if len(self._raw) > MAX_HEAD_BYTES:
                    self._break(Reason.BAD_RESPONSE, "the engine's answer has too large a head")
                return
            if not self._tell_head(waiting, now):
                return
        elif self._is_surplus(data):
            self._break(Reason.BAD_RESPONSE, "bytes follow the engine's answer")
            return
        else:
            waiting.on_data(data, now)
        if self._complete and self._waiting is waiting:
            self._finish(waiting, self._keep, now)

    def _is_surplus(self, data: bytes) -> bool:
        """Whether ``data`` goes beyond the answer's end: httptools reads over line ends there, and says nothing."""
        if self._left < _ENDLESS:
            self._left -= len(data)
            return self._left < 0
        self._tail = tail = data[-6:] if len(data) >= 6 else (self._tail + data)[-6:]
        if not self._complete:
            return False
        return not tail.endswith(b"\r\n\r\n") or tail == b"\r\n\r\n\r\n"

    def _tell_head(self, waiting: Answered, now: float) -> bool:
        """Pass on the head and what came with it; False where the answer is refused."""
        head, found, data = self._raw.partition(HEAD_END)
        names = head.lower()  # httptools has checked that every name is followed by its colon
        while self._interims and b"\r\ncontent-length:" not in names and b"\r\ntransfer-encoding:" not in names:
            self._interims -= 1
            head, found, data = data.partition(HEAD_END)
            names = head.lower()
        self._framings = names.count(b"\r\ncontent-length:") + names.count(b"\r\ntransfer-encoding:")
        # httptools reads over line ends before a status line; relayed, they would stand in its place
        if not found or self._framings > 1 or self._interims or not head.startswith(b"HTTP/1."):
            self._break(Reason.BAD_RESPONSE, "the engine's answer has an ambiguous head")
            return False
        length = _LENGTH.search(names)
        if self._status in _BODYLESS:
            self._left = 0
        elif length is not None:
            self._left = int(length[1])
        if self._is_surplus(data):
            self._break(Reason.BAD_RESPONSE, "bytes follow the engine's answer")
            return False
        if not head.startswith(b"HTTP/1.1 ") or b"connection:" in names or b"\r\nkeep-alive:" in names:
            line, *fields = head.split(b"\r\n")
            kept = [field for field in fields if not (b"\r\n" + field.lower()).startswith(_NOT_RELAYED)]
            head = b"\r\n".join([b"HTTP/1.1 " + line.partition(b" ")[2], *kept])
        self._raw = b""
        self._head_told = True
        waiting.on_head(self._status, head, self._until_close, data, now)
        return True

    @property
    def _until_close(self) -> bool:
        return self._framings == 0 and not self._complete

    def _finish(self, waiting: Answered, keep: bool, now: float) -> None:
        self._waiting = None
        self._used = True
        if keep:
            self.resume()  # the last bytes may have filled the client's buffer
            self.idle_since = now
            self.backend.give_back(self)
        else:
            self.close()
        waiting.on_complete(now)

    def _break(self, reason: Reason, message: str, stale: bool = False) -> None:
        waiting = self._waiting
        self.abandon()
        if waiting is not None:
            waiting.on_broken(UpstreamError(reason, message), stale)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the idle list, or end the answer: by EOF where that is its framing, else as broken off."""
        self._transport = None
        waiting = self._waiting
        if waiting is None:
            if self in self.backend.idle:
                self.backend.idle.remove(self)
        elif self._head_told and self._until_close and exc is None:
            self._finish(waiting, keep=False, now=time.monotonic())
        else:
            untouched = self._used and self._messages == 0
            self._break(Reason.BROKE_OFF, "the engine closed the connection before its answer was complete", untouched)


def no_delay(transport: asyncio.BaseTransport) -> None:
    """Set TCP_NODELAY."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset_when_closed(transport: asyncio.BaseTransport) -> None:
    """Make closing send RST instead of FIN (SO_LINGER 0): the peer sees that something is missing."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
