"""Heads and chunked bodies: strict where two readers could disagree, and indifferent to how bytes arrive."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_router.errors import MalformedMessageError
from bes_router.http1 import ChunkedBody, HeadCache, parse_request_head, refuse_bare_line_ends, response

PLAIN = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"


def test_a_plain_head_is_read() -> None:
    head = parse_request_head(PLAIN + b"Content-Length: 12\r\nX-A: b  c\r\nExpect: 100-Continue\r\n\r\n")
    assert (head.method, head.path, head.content_length, head.chunked) == (b"POST", b"/v1/completions", 12, False)
    assert head.keep_alive
    assert head.expects_continue
    assert (b"x-a", b"b  c") in head.headers


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "content-length"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "content-length"),
        (b"Content-Length: 2\r\nContent-Length: 2\r\n", "content-length"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", "content-length"),
        (b"Content-Length: 2, 2\r\n", "content-length"),
        (b"Content-Length: +2\r\n", "content-length"),
        (b"Content-Length: 0x2\r\n", "content-length"),
        (b"Content-Length: -2\r\n", "content-length"),
        (b"Content-Length: \r\n", "content-length"),
        (b"Content-Length : 2\r\n", "head"),
        (b"Content-Length: 99999999999999999999\r\n", "content-length"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "transfer-encoding"),
        (b"Transfer-Encoding: identity\r\n", "transfer-encoding"),
        (b"Transfer-Encoding: chunked, chunked\r\n", "transfer-encoding"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "transfer-encoding"),
        (b"Transfer-Encoding: \x0bchunked\r\n", "transfer-encoding"),
        (b"X: a\r\n b\r\n", "folded"),
        (b"X: a\r\n\tb\r\n", "folded"),
        (b"X: a\nY: b\r\n", "CR LF"),
        (b"X: a\rY: b\r\n", "CR LF"),
        (b"X: a\r\r\n", "CR LF"),
        (b"X: a\x00b\r\n", "head"),
        (b"X\r\n", "head"),
        (b": a\r\n", "head"),
        (b"X Y: a\r\n", "head"),
        (b"Host: b\r\n", "host"),
    ],
)
def test_ambiguous_or_broken_heads_are_refused(fields: bytes, word: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        parse_request_head(PLAIN + fields + b"\r\n")
    assert word.lower() in str(caught.value).lower() or "head is not HTTP/1.1" in str(caught.value)
    assert caught.value.status in {400, 501}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"SPAM EGGS HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_other_versions_and_other_protocols_are_refused(raw: bytes, status: int) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        parse_request_head(raw)
    assert caught.value.status == status


def test_an_upgrade_is_ignored_and_a_connection_may_be_closed() -> None:
    head = parse_request_head(PLAIN + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n")
    assert head.path == b"/v1/completions"
    assert not parse_request_head(PLAIN + b"Connection: close\r\n\r\n").keep_alive


def test_the_path_is_the_target_without_query_and_authority() -> None:
    for target, path in ((b"/a?b=c", b"/a"), (b"http://host:1/a/b?c", b"/a/b"), (b"http://host", b"/")):
        assert parse_request_head(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").path == path


def test_fields_that_connection_names_are_not_forwarded() -> None:
    head = parse_request_head(PLAIN + b"Connection: X-Hop, Keep-Alive\r\nX-Hop: 1\r\nX-Kept: 2\r\nCookie: c\r\n\r\n")
    assert head.forwarded == b"x-kept: 2\r\n"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_head_or_a_refusal(noise: bytes) -> None:
    for raw in (noise, PLAIN + noise, noise + b"\r\n\r\n", PLAIN + noise + b"\r\n\r\n"):
        try:
            head = parse_request_head(raw)
        except MalformedMessageError:
            continue
        assert not (head.chunked and head.content_length)
        assert b"\n" not in head.forwarded.replace(b"\r\n", b"")


FIELDS = [
    b"A: b",
    b"Content-Length: 7",
    b"content-length:8",
    b"Content-Length:  9",
    b"Content-length: 10, 10",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"X: \r\n y",
    b"Expect: 100-continue",
    b"Host: b",
]


@given(st.lists(st.lists(st.sampled_from(FIELDS), max_size=4), min_size=2, max_size=12), st.data())
def test_a_head_from_the_cache_is_the_head_that_parsing_gives(heads: list[list[bytes]], data: st.DataObject) -> None:
    cache = HeadCache(size=4)
    for fields in heads:
        raw = PLAIN + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
        raw = raw.replace(b"7", str(data.draw(st.integers(0, 99))).encode())
        try:
            expected = parse_request_head(raw)
        except MalformedMessageError as error:
            with pytest.raises(MalformedMessageError, match=re.escape(str(error))):
                cache.parse(raw)
            continue
        head, length = cache.parse(raw)
        assert length == expected.content_length
        for name in ("chunked", "expects_continue", "forwarded", "keep_alive", "method", "path"):
            assert getattr(head, name) == getattr(expected, name)


def test_the_cache_of_heads_stays_small() -> None:
    cache = HeadCache(size=4, max_bytes=200)
    for number in range(50):
        cache.parse(PLAIN + b"Content-Length: 1\r\nX: " + b"x" * number * 10 + b"\r\n\r\n")
    assert len(cache._heads) <= 4
    assert max(map(len, cache._heads), default=0) <= 200


@given(st.lists(st.sampled_from([b"a: b\r\n", b"x: y\r\n", b"\r\n"]), max_size=5), st.data())
def test_a_good_beginning_of_a_head_is_never_refused(lines: list[bytes], data: st.DataObject) -> None:
    raw = PLAIN + b"".join(lines)
    refuse_bare_line_ends(raw[: data.draw(st.integers(0, len(raw)))])


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(raw) + 1) for cut in cuts}), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges) if a < b]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";name=value", b';q="\x01"']),
    st.sampled_from([b"", b"Trailer: x\r\n"]),
    st.binary(max_size=10),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_a_chunked_body_is_the_same_however_it_arrives(
    chunks: list[bytes], extension: bytes, trailer: bytes, after: bytes, cuts: list[int]
) -> None:
    framed = (
        b"".join(b"%X%b\r\n%b\r\n" % (len(each), extension, each) for each in chunks) + b"0\r\n" + trailer + b"\r\n"
    )
    body = ChunkedBody(10_000)
    rest: bytes | None = None
    for piece in pieces(framed + after, cuts):
        rest = body.feed(piece) if rest is None else rest + piece
    assert rest == after
    assert body.payload == b"".join(chunks)


@pytest.mark.parametrize(
    "raw",
    [
        b"x\r\n", b"\r\n", b"-1\r\n", b"+1\r\na\r\n", b"0x1\r\na\r\n", b" 1\r\na\r\n", b"1 \r\na\r\n", b"1_0\r\n",
        b"1\na\n0\n\n", b"1\r\nab\r\n", b"1\r\na\n\r\n", b"1;a\nb\r\na\r\n", b"f" * 400, b"0\r\na\nb: c\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 2000, b"fffffffffffffffff\r\n", b"65\r\n",
    ],
)  # fmt: skip
def test_broken_or_too_large_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        ChunkedBody(100).feed(raw)


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_are_a_chunked_body_or_refused(parts: list[bytes]) -> None:
    body = ChunkedBody(100)
    try:
        for part in parts:
            if body.feed(part) is not None:
                break
    except MalformedMessageError:
        pass
    assert len(body.payload) <= 100


def test_the_routers_own_answer_says_its_length() -> None:
    raw = response(404, b"{}", ((b"retry-after", b"1"),), close=True)
    assert raw == (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\nretry-after: 1\r\n"
        b"connection: close\r\n\r\n{}"
    )
