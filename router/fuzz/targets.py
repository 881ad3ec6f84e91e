"""What the fuzzer calls: bytes of clients and of engines against the data path's parsers, with what must hold of them.

No sockets: connections stand on a transport that only takes notes. Each target raises where a promise is broken.
"""

import asyncio
from dataclasses import dataclass, field

import httptools
import orjson

from bes_api.discovery_config import BackendAddress
from bes_api.router_config import Limits
from bes_router import bodies, http1
from bes_router.backends import Backend
from bes_router.errors import Reason, RefusedRequestError, UpstreamError
from bes_router.http1 import HeadCache, RequestHead
from bes_router.server import ClientConnection
from bes_router.upstream import UpstreamConnection

LIMITS = Limits(max_head_bytes=1024, max_body_bytes=2048)
SERVED = b'"org/served"'


class BrokenPromiseError(Exception):
    """What the fuzzer looks for."""


def holds(condition: object, what: str) -> None:
    """Raise BrokenPromiseError unless ``condition``."""
    if not condition:
        raise BrokenPromiseError(what)


@dataclass
class Notes(asyncio.Transport):
    """A transport that notes what is written and whether it was closed."""

    written: bytes = b""
    closed: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Noted nowhere."""

    def resume_reading(self) -> None:
        """Noted nowhere."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


@dataclass
class Door:
    """Takes whole requests, as a router does, and answers each at once."""

    limits: Limits = LIMITS
    heads: HeadCache = field(default_factory=HeadCache)
    draining: bool = False
    taken: list[tuple[bytes, bytes, bytes, bytes]] = field(default_factory=list)
    refused: int = 0

    def handle(self, connection: ClientConnection, head: RequestHead, body: bytes, arrival: float) -> bytes:
        self.taken.append((head.method, head.target, head.forwarded, body))
        _forwards_safely(head)
        return connection.answer(200, b"{}")

    def opened(self, connection: ClientConnection) -> None:
        """Nobody waits for this."""

    def closed(self, connection: ClientConnection) -> None:
        """Nobody waits for this."""

    def malformed(self, reason: Reason) -> None:
        self.refused += 1


def head(data: bytes) -> None:
    """Requests in pieces are read as the same requests in one, and whatever is forwarded is read alike by engines."""
    cut, data = (data[0] + 1 if data else 1), data[1:]
    whole, pieces, bytewise = Door(), Door(), Door()
    _fed(whole, [data])
    _fed(pieces, [data[at : at + cut] for at in range(0, len(data), cut)])
    holds(pieces.taken == whole.taken, f"read otherwise in pieces of {cut}: {pieces.taken} {whole.taken}")
    holds(pieces.refused == whole.refused, f"refused otherwise in pieces of {cut}")
    if len(data) < 64:
        _fed(bytewise, [data[at : at + 1] for at in range(len(data))])
        holds(bytewise.taken == whole.taken, "read otherwise byte by byte")


def _fed(door: Door, pieces: list[bytes]) -> None:
    connection, notes = ClientConnection(door), Notes()
    connection.connection_made(notes)
    for piece in pieces:
        if notes.closed:
            break
        connection.data_received(piece)
    holds(notes.written.count(b"HTTP/1.1 ") >= len(door.taken), "an answer is missing")


def _forwards_safely(found: RequestHead) -> None:
    again = http1.parse_request_head(b"POST /v1/completions HTTP/1.1\r\nhost: e\r\n" + found.forwarded + b"\r\n")
    holds(not again.chunked and not again.content_length, "framing is forwarded")
    holds(again.forwarded == found.forwarded, "what is forwarded is read otherwise")
    holds(not again.own, "the router's own fields are forwarded")


def body(data: bytes) -> None:
    """Only 400s are raised, and of a body that is taken nothing changes but the top-level model."""
    for parse in (bodies.parse_completion, bodies.parse_chat):
        try:
            asked = parse(data)
        except RefusedRequestError as error:
            holds(error.status == 400, f"refused with {error.status}")
            continue
        sent = bodies.spliced(data, asked, SERVED)
        before, after = orjson.loads(data), orjson.loads(sent)
        holds(after.pop("model") == "org/served", "the served model is not what the engine reads")
        before.pop("model", None)
        holds(before == after, "something else changed")
        holds(asked.sequences >= 1 and asked.characters >= 0 and 0.0 <= asked.longest <= 1.0, f"{asked}")


@dataclass
class Heard:
    """Whoever waits for an answer."""

    relayed: bytes = b""
    heads: int = 0
    ends: int = 0
    complete: bool = False

    def on_head(self, status: int, head: bytes, until_close: bool, data: bytes, now: float) -> None:
        self.heads += 1
        names = head.lower()
        framings = names.count(b"\r\ncontent-length:") + names.count(b"\r\ntransfer-encoding:")
        holds(framings <= 1, "two framings are relayed")
        holds(head.startswith(b"HTTP/1.1 ") and b"\r\n\r\n" not in head, f"no head: {head!r}")
        self.relayed += head + http1.HEAD_END + data

    def on_data(self, data: bytes, now: float) -> None:
        holds(self.heads == 1 and not self.ends, "bytes without a head, or after the end")
        self.relayed += data

    def on_complete(self, now: float) -> None:
        self.ends += 1
        self.complete = True

    def on_broken(self, error: UpstreamError, stale: bool) -> None:
        self.ends += 1


def answer(data: bytes) -> None:
    """An answer has one end; one that is complete is the same in pieces, and is read to its end by another reader."""
    cut, data = (data[0] + 1 if data else 1), data[1:]
    whole = _heard([data])
    pieces = _heard([data[at : at + cut] for at in range(0, len(data), cut)])
    for heard in (whole, pieces):
        holds(heard.ends <= 1 and heard.heads <= 1, "more than one end")
    if whole.complete:
        holds(pieces.complete and pieces.relayed == whole.relayed, f"another answer in pieces of {cut}")
        _read_again(whole.relayed)


def _backend() -> Backend:
    listed = BackendAddress(model="m", replica=0, address="127.0.0.1", port=1, served_model="org/m")
    return Backend(listed, 0, 0, lambda _engine, _ready: None)


def _heard(pieces: list[bytes]) -> Heard:
    connection, notes, heard = UpstreamConnection(_backend()), Notes(), Heard()
    connection.connection_made(notes)
    connection.send(b"", heard)
    for piece in pieces:
        if notes.closed:
            break
        connection.data_received(piece)
    if not notes.closed:
        connection.connection_lost(None)
    return heard


class _Reader:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _read_again(relayed: bytes) -> None:
    reader = _Reader()
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(relayed)
        parser.feed_data(b"")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise BrokenPromiseError(f"what was relayed cannot be read: {error}") from None


TARGETS = {"head": head, "body": body, "answer": answer}
