"""Requests that no honest client sends: malformed, truncated, oversized, slow, or shaped to be read in two ways.

Seeded: the same number and seed give the same bytes. What is smuggled asks for a prompt that begins with ``SMUGGLED``.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

SMUGGLED = "smuggled"
PATHS = (
    b"/v1/completions",
    b"/v1/chat/completions",
    b"/v1/models",
    b"/",
    b"*",
    b"//v1/completions",
    b"/v1/%63ompletions",
)


class Then(StrEnum):
    """What the client does after its bytes."""

    READ = "read"
    CLOSE = "close"
    RESET = "reset"
    HALF_CLOSE = "half-close"


@dataclass(frozen=True)
class Hostile:
    """Bytes in pieces, with a pause (seconds) before each but the first, and what follows."""

    family: str
    pieces: tuple[bytes, ...]
    pause: float = 0.0
    then: Then = Then.READ


def hostile_request(number: int, seed: int) -> Hostile:
    """The ``number``-th request of ``seed``."""
    chance = random.Random(f"{seed}-request-{number}")
    family = chance.choices(tuple(FAMILIES), [weight for weight, _ in FAMILIES.values()])[0]
    data, pause = FAMILIES[family][1](chance)
    then = chance.choices(tuple(Then), (6, 1, 1, 2))[0]
    if pause:
        cuts = sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randint(1, 8))))
        pieces = tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
        return Hostile(family, pieces, pause, then)
    if chance.random() < 0.5 and len(data) > 1:
        at = chance.randrange(1, len(data))
        return Hostile(family, (data[:at], data[at:]), 0.0, then)
    return Hostile(family, (data,), 0.0, then)


def request(body: bytes, *fields: bytes, path: bytes = b"/v1/completions", line: bytes | None = None) -> bytes:
    """A request with its true length, whatever else is in ``fields``."""
    first = line or b"POST %b HTTP/1.1" % path
    lines = (first, b"host: a", b"content-type: application/json", *fields, b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def plain(chance: random.Random, **more: object) -> bytes:
    """A body that is in order."""
    document: dict[str, object] = {"prompt": f"hostile {chance.random()}", "max_tokens": 4, **more}
    if chance.random() < 0.5:
        document["stream"] = True
    return json.dumps(document).encode()


def hidden() -> bytes:
    """A request in another's body."""
    return request(json.dumps({"prompt": SMUGGLED}).encode())


Made = tuple[bytes, float]


def _mutated(chance: random.Random) -> Made:
    data = bytearray(request(plain(chance)))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 9)]
            case 2:
                data[at:at] = chance.choice((b"\r", b"\n", b"\0", b"\r\n", b"\r\n\r\n", b":", b" ", b"\xff", b"\t"))
            case _:
                data[at:at] = data[at : at + chance.randint(1, 40)]
        if not data:
            data += b"\r"
    return bytes(data), 0.0


def _truncated(chance: random.Random) -> Made:
    data = request(plain(chance))
    return data[: chance.randrange(1, len(data))], 0.0


def _oversized(chance: random.Random) -> Made:
    size = chance.choice((33_000, 70_000, 300_000))
    many = b"".join(b"\r\nx-%d: %b" % (i, b"v" * 50) for i in range(size // 60))
    chunked = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    return (
        chance.choice(
            (
                b"GET /" + b"a" * size + b" HTTP/1.1\r\nhost: a\r\n\r\n",
                b"GET /v1/models HTTP/1.1\r\nhost: a" + many + b"\r\n\r\n",
                b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: " + b"b" * size,
                b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (10**9),
                b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %b\r\n\r\n" % (b"9" * 40),
                request(b'{"prompt": "' + b"x" * size + b'"}'),
                chunked + b"fffffffffffffff\r\n",
                chunked + b"1;" + b"e" * size + b"\r\na\r\n0\r\n\r\n",
                chunked + b"0\r\n" + b"t: x\r\n" * (size // 6) + b"\r\n",
                b"\r\n" * (size // 2),
            )
        ),
        0.0,
    )


def _slow(chance: random.Random) -> Made:
    return request(plain(chance)), chance.choice((0.001, 0.01, 0.15))


def _framing(chance: random.Random) -> Made:
    body = plain(chance)
    inner = hidden()
    field = chance.choice(
        (
            b"transfer-encoding: chunked",
            b"transfer-encoding : chunked",
            b"transfer-encoding:\tchunked",
            b"transfer-encoding: xchunked",
            b"transfer-encoding: chunked, identity",
            b"transfer-encoding: identity, chunked",
            b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            b"transfer-encoding:\r\n chunked",
            b"transfer-encoding: \x0bchunked",
            b"content-length: 0",
            b"content-length: +%d" % len(body),
            b"content-length: %d, %d" % (len(body), len(body)),
            b"content-length: 0x10",
            b"content-length: -1",
            b"content-length : 5",
            b"content-length: 5\r\n 0",
            b"content-length: 5 0",
            b"Content_Length: 0",
            b"x: y\ncontent-length: 0",
            b"x: y\rcontent-length: 0",
            b"x: y\r\n\tcontent-length: 0",
            b"host: b",
            b"expect: 100-continue",
            b"connection: close, content-length",
            b"upgrade: h2c\r\nconnection: upgrade",
            b"te: trailers\r\ntrailer: content-length",
            b"x-bes-model: a\r\nx-bes-model: b",
        )
    )
    shape = chance.randrange(4)
    if shape == 0:
        return request(body + inner, field), 0.0
    if shape == 1:
        return request(b"0\r\n\r\n" + inner, field), 0.0
    if shape == 2:
        lines = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % field
        return lines + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), 0.0
    return request(body, field) + request(plain(chance)), 0.0


def _chunks(chance: random.Random) -> Made:
    body = plain(chance)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    size = b"%x" % len(body)
    first = chance.choice(
        (size, b"0" * 20 + size, b"+" + size, b"0x" + size, size + b" ", size + b";a=\nb", b"-1", b"", b"1" * 16, b"g")
    )
    end = chance.choice((b"\r\n", b"\n", b"\r", b"", b"xx"))
    tail = chance.choice((b"0\r\n\r\n", b"0\r\n", b"0\n\n", b"00000\r\n\r\n", b"0\r\nx: y\nz: w\r\n\r\n", hidden()))
    return head + first + b"\r\n" + body + end + tail, 0.0


def _bodies(chance: random.Random) -> Made:
    deep = chance.choice((50, 1200, 20_000))
    bodies = (
        b"",
        b"[]",
        b"null",
        b'{"prompt": ',
        b"[" * deep,
        b'{"prompt": ' + b"[" * deep + b"]" * deep + b"}",
        b'{"prompt": "x", "model": "a", "model": "b"}',
        b'{"prompt": "x", "mod\\u0065l": "a", "model": "b"}',
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "max_tokens": 1e400}',
        b'{"prompt": "x", "max_tokens": 99999999999999999999}',
        b'{"prompt": "x", "n": 65535, "best_of": 65535}',
        b'{"prompt": [[1,2],[]]}',
        b'{"prompt": ["a", 1]}',
        b'{"prompt": "x", "stream": "yes"}',
        b'{"prompt": "x", "model": {"a": 1}}',
        b"\xef\xbb\xbf" + b'{"prompt": "x"}',
        b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
        b'{"messages": "x"}',
        json.dumps({"prompt": chance.randbytes(200).decode("latin-1"), "model": "\0"}).encode(),
    )
    path = chance.choice(PATHS)
    return request(chance.choice(bodies), path=path), 0.0


def _lines(chance: random.Random) -> Made:
    body = plain(chance)
    lines = (
        b"POST /v1/completions HTTP/1.0",
        b"POST /v1/completions HTTP/2.0",
        b"POST /v1/completions HTTP/1.1 ",
        b"POST  /v1/completions HTTP/1.1",
        b"post /v1/completions HTTP/1.1",
        b"POST /v1/completions",
        b"POST\t/v1/completions\tHTTP/1.1",
        b"POST http://b/v1/completions HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE /v1/completions HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /v1/models/%b HTTP/1.1" % (b"../" * 20),
        b"GET /v1/models/\xff\xfe HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b" POST /v1/completions HTTP/1.1",
    )
    return request(body, line=chance.choice(lines)), 0.0


def _noise(chance: random.Random) -> Made:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    return chance.choice((b"", hello, b"\r\n")) + chance.randbytes(chance.randint(1, 2000)), 0.0


def _pipelines(chance: random.Random) -> Made:
    parts = [request(plain(chance)) for _ in range(chance.randint(2, 12))]
    if chance.random() < 0.5:
        parts.insert(chance.randrange(len(parts)), _framing(chance)[0])
    return b"".join(parts), 0.0


FAMILIES: Mapping[str, tuple[float, Callable[[random.Random], Made]]] = {
    "mutated": (5, _mutated),
    "truncated": (2, _truncated),
    "oversized": (1, _oversized),
    "slow": (0.6, _slow),
    "framing": (5, _framing),
    "chunks": (3, _chunks),
    "bodies": (3, _bodies),
    "lines": (2, _lines),
    "noise": (1, _noise),
    "pipelines": (1, _pipelines),
}
"""By name: how often, and how it is made."""
