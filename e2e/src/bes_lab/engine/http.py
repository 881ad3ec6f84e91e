"""One engine's HTTP/1.1 server: a lean asyncio.Protocol that parses heads with httptools and answers in order."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

import httptools

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_PIPELINED = 16
_LINGER_NOT = struct.pack("ii", 1, 0)
_FLUSH_SECONDS = 0.002
JSON = b"application/json"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Message(NamedTuple):
    """One request as it came in."""

    method: bytes
    path: bytes
    body: bytes
    keep_alive: bool


class Pending(Protocol):
    """An answer that is still being computed."""

    def abandon(self) -> None:
        """The client has gone; nobody wants the answer."""
        ...


class Exchange:
    """The answering side of one request: either ``reply``, or ``begin_stream``, ``send`` and ``end_stream``."""

    __slots__ = ("_keep_alive", "connection")

    def __init__(self, connection: "Connection", keep_alive: bool) -> None:
        self.connection = connection
        self._keep_alive = keep_alive

    def reply(self, status: int, body: bytes, content_type: bytes = JSON, headers: bytes = b"") -> None:
        """Send the whole answer; ``headers`` are further lines."""
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        self._write(
            b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\n%b%b\r\n%b"
            % (status, _REASONS.get(status, b"Error"), self._framing(len(body)), content_type, headers, closing, body)
        )
        self.connection.answered(self._keep_alive)

    def begin_stream(self) -> None:
        """Send the head of a stream of server-sent events."""
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        self._write(head + self._stream_framing() + closing + b"\r\n")

    def send(self, data: bytes) -> None:
        """Send one piece of a stream as a chunk."""
        self._write(self._chunk(data))

    def end_stream(self) -> None:
        """Close the stream."""
        self._write(b"0\r\n\r\n")
        self.connection.answered(self._keep_alive)

    def _write(self, data: bytes) -> None:
        self.connection.write(data)

    def _framing(self, length: int) -> bytes:
        return b"content-length: %d\r\n" % length

    def _stream_framing(self) -> bytes:
        return b"transfer-encoding: chunked\r\n"

    def _chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)


Handler = Callable[[Message, Exchange], Pending | None]


class Connection(asyncio.Protocol):
    """One client's connection. Pipelined requests are answered one after the other."""

    def __init__(self, handler: Handler, connections: "set[Connection]") -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Message] = deque()
        self._pending: Pending | None = None
        self._busy = False
        self._retired = False
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._expects_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport; answers must not wait for acknowledgements."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        self._connections.add(self)
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Abandon what is still being computed for this client."""
        self._connections.discard(self)
        self._transport = None
        self._queue.clear()
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it cannot read is answered 400 and closed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(400)

    def write(self, data: bytes) -> None:
        """Write unless the client has gone."""
        if self._transport is not None:
            self._transport.write(data)

    def answered(self, keep_alive: bool) -> None:
        """The current request has its answer: close, or go on with the next one."""
        self._busy = False
        self._pending = None
        if not keep_alive or self._retired:
            self.close()
        elif self._queue:
            self._start(self._queue.popleft())
            if self._transport is not None and len(self._queue) < MAX_PIPELINED:
                self._transport.resume_reading()

    def close(self) -> None:
        """Close after what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def retire(self) -> None:
        """Close as soon as nothing is being answered."""
        self._retired = True
        if not self._busy:
            self.close()

    def reset(self) -> None:
        """End with RST, after what was written has left: an engine that dies says no goodbye."""
        transport = self._transport
        if transport is None:
            return
        self._transport = None  # nothing more is written, and nothing is closed politely
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        asyncio.get_running_loop().call_later(_FLUSH_SECONDS, transport.abort)

    def on_message_begin(self) -> None:
        """httptools: a request begins."""
        self._url = b""
        self._body = []
        self._body_bytes = 0
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, _value: bytes) -> None:
        """httptools: only `Expect: 100-continue` matters here; length and connection are the parser's business."""
        if len(name) == 6 and name.lower() == b"expect":
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        """httptools: curl waits for this line before it sends a large body."""
        if self._expects_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the request is complete."""
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse(413)
            return
        parser = self._parser
        path = self._url.partition(b"?")[0]
        message = Message(parser.get_method(), path, b"".join(self._body), parser.should_keep_alive())
        if not self._busy:
            self._start(message)
            return
        self._queue.append(message)
        if self._transport is not None and len(self._queue) >= MAX_PIPELINED:
            self._transport.pause_reading()

    def _start(self, message: Message) -> None:
        self._busy = True
        pending = self._handler(message, Exchange(self, message.keep_alive))
        if self._busy:
            self._pending = pending

    def _refuse(self, status: int) -> None:
        if self._transport is not None and not self._busy:
            Exchange(self, keep_alive=False).reply(status, b"")
        self.close()
