"""Answers that no honest engine gives: malformed, truncated, oversized, slow, or more than one.

Whatever is more than one answer is sent in one piece. An engine that adds bytes later, when the connection may carry
another request, cannot be told from one that answers that request: no client of HTTP/1.1 can.
"""

import json
import random
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

EVIL = re.compile(rb"evil-(\d+)-([0-9a-f]{8})")
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """Bytes in pieces with a pause (seconds) between them, then the connection is kept, closed or reset."""

    family: str
    pieces: tuple[bytes, ...]
    pause: float
    then: str


def hostile_answer(number: int, seed: int, attempt: int) -> Reply:
    """What an engine says to the ``number``-th hostile prompt, the ``attempt``-th time that it is asked."""
    chance = random.Random(f"{seed}-answer-{number}-{attempt}")
    family = chance.choices(tuple(FAMILIES), [weight for weight, _ in FAMILIES.values()])[0]
    data = FAMILIES[family][1](chance, marker_of(number))
    pause = chance.choice((0.0, 0.0, 0.0, 0.0, 0.002, 0.05)) if family in _MAY_BE_SLOW else 0.0
    pieces: tuple[bytes, ...] = (data,)
    if pause and len(data) > 2:
        at = sorted(chance.sample(range(1, len(data)), min(3, len(data) - 1)))
        pieces = tuple(data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True))
    return Reply(family, pieces, pause, chance.choice(("keep", "close", "close", "reset")))


def marker_of(number: int) -> bytes:
    """What the answer to a hostile prompt repeats; its checksum tells another's marker from a spoilt one."""
    return b"evil-%d-%08x" % (number, zlib.crc32(b"%d" % number))


def whole(marker: bytes, *fields: bytes) -> bytes:
    """An answer that is in order, but for ``fields``."""
    body = json.dumps({"choices": [{"text": marker.decode()}]}).encode()
    lines = b"".join(field + b"\r\n" for field in fields)
    return _OK + lines + b"content-length: %d\r\n\r\n" % len(body) + body


def stream(marker: bytes) -> bytes:
    """A stream that is in order."""
    events = [b'data: {"choices": [{"text": "%b"}]}\n\n' % marker] * 3 + [b"data: [DONE]\n\n"]
    return _EVENTS + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def _either(chance: random.Random, marker: bytes) -> bytes:
    return whole(marker) if chance.random() < 0.5 else stream(marker)


def _mutated(chance: random.Random, marker: bytes) -> bytes:
    data = bytearray(_either(chance, marker))
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data))
        if chance.random() < 0.4:
            data[at] ^= 1 << chance.randrange(8)
        elif chance.random() < 0.5:
            del data[at : at + chance.randint(1, 9)]
        else:
            data[at:at] = chance.choice((b"\r", b"\n", b"\0", b"\r\n", b"\r\n\r\n", b":", b" ", b"\xff"))
    return bytes(data) or b"\n"


def _truncated(chance: random.Random, marker: bytes) -> bytes:
    data = _either(chance, marker)
    return data[: chance.randrange(1, len(data))]


def _framing(chance: random.Random, marker: bytes) -> bytes:
    field = chance.choice(
        (
            b"content-length: 3",
            b"content-length: 9999",
            b"transfer-encoding: chunked",
            b"transfer-encoding: gzip",
            b"Content-Length : 4",
            b"content-length: -1",
            b"content-length: 1, 1",
            b"content-length: 0x1f",
            b"x: y\ncontent-length: 2",
            b"x: y\r\n folded",
            b"x:\0y",
            b"connection: upgrade\r\nupgrade: h2c",
            b"connection: close",
            b"keep-alive: timeout=0",
            b"x-bes-model: forged",
        )
    )
    return whole(marker, field)


def _several(chance: random.Random, marker: bytes) -> bytes:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    return chance.choice(
        (
            whole(marker) + whole(marker),
            stream(marker) + whole(marker),
            whole(marker) + chance.randbytes(30),
            interim * chance.randint(1, 5) + whole(marker),
            hints + interim + stream(marker),
            interim * 4000,
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + whole(marker),
            b"HTTP/1.1 204 No Content\r\n\r\n" + whole(marker),
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n" + b"hello",
        )
    )


def _oversized(chance: random.Random, marker: bytes) -> bytes:
    size = chance.choice((20_000, 70_000, 400_000))
    return chance.choice(
        (
            whole(marker, b"x: " + b"y" * size),
            whole(marker, *(b"x-%d: y" % i for i in range(size // 20))),
            _OK + b"content-length: %d\r\n\r\n" % size + b"z" * size,
            b"HTTP/1.1 503 Busy\r\ncontent-length: %d\r\n\r\n" % size + b"z" * size,
            _EVENTS + b"%x\r\n" % size + b"z" * (size // 2),
        )
    )


def _chunks(chance: random.Random, marker: bytes) -> bytes:
    event = b"data: %b\n\n" % marker
    first = chance.choice((b"%x" % len(event), b"ffffffffffffffff", b"-1", b"", b"g", b"%x;x" % len(event), b"7"))
    return _EVENTS + first + b"\r\n" + event + chance.choice((b"\r\n", b"\n", b"")) + b"0\r\n\r\n"


def _lines(chance: random.Random, marker: bytes) -> bytes:
    line = chance.choice(
        (
            b"HTTP/1.0 200 OK",
            b"HTTP/1.1 000 Zero",
            b"HTTP/1.1 999 Many",
            b"HTTP/1.1 20 Short",
            b"HTTP/1.1 -200 Less",
            b"HTTP/3 200 OK",
            b"HTTP/1.1  200",
            b"ICY 200 OK",
            b"HTTP/1.1 200",
            b"POST / HTTP/1.1",
        )
    )
    return line + whole(marker)[len(b"HTTP/1.1 200 OK") :]


def _statuses(chance: random.Random, marker: bytes) -> bytes:
    status = chance.choice((400, 404, 418, 429, 500, 502, 503, 504, 529))
    fields = chance.choice((b"", b"retry-after: x\r\n", b"connection: close\r\n"))
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, fields, len(marker), marker)


def _noise(chance: random.Random, marker: bytes) -> bytes:
    return chance.choice((b"", b"\r\n\r\n", marker)) + chance.randbytes(chance.randint(1, 3000))


def _until_close(chance: random.Random, marker: bytes) -> bytes:
    return _OK + b"\r\n" + marker * chance.randint(1, 50)


FAMILIES: Mapping[str, tuple[float, Callable[[random.Random, bytes], bytes]]] = {
    "mutated": (4, _mutated),
    "truncated": (3, _truncated),
    "framing": (4, _framing),
    "several": (3, _several),
    "oversized": (1, _oversized),
    "chunks": (3, _chunks),
    "lines": (2, _lines),
    "statuses": (2, _statuses),
    "noise": (1, _noise),
    "until-close": (1, _until_close),
}
"""By name: how often, and how it is made."""
_MAY_BE_SLOW = frozenset({"truncated", "chunks", "lines", "statuses", "until-close"})
