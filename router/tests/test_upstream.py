"""An engine's answer, in whatever pieces and however broken: relayed as it is, and ended exactly once."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_api.discovery_config import BackendAddress
from bes_router.backends import Backend
from bes_router.errors import UpstreamError
from bes_router.upstream import UpstreamConnection

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.ended

    def get_extra_info(self, _: str) -> None:
        return None

    def close(self) -> None:
        self.ended = True

    abort = close


class Waiting:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.head = b""
        self.body = b""
        self.ends: list[UpstreamError | None] = []

    def on_head(self, status: int, head: bytes, until_close: bool, data: bytes, _: float) -> None:
        assert not self.head
        self.until_close = until_close
        self.status, self.head, self.body = status, head, data

    def on_data(self, data: bytes, _: float) -> None:
        assert self.head
        assert not self.ends
        self.body += data

    def on_complete(self, _: float) -> None:
        self.ends.append(None)

    def on_broken(self, error: UpstreamError, stale: bool) -> None:
        self.ends.append(error)
        self.stale = stale


def connection() -> UpstreamConnection:
    address = BackendAddress(model="m", replica=0, address="127.0.0.1", port=1, served_model="m")
    backend = Backend(address, 0, 0, lambda *_: None)
    backend.mark(True)
    made = UpstreamConnection(backend)
    made.connection_made(cast(Any, Wire()))
    return made


def feed(upstream: UpstreamConnection, raw: bytes, cuts: list[int]) -> Waiting:
    waiting = Waiting()
    upstream.send(b"request", waiting)
    edges = [0, *sorted({cut % (len(raw) + 1) for cut in cuts}), len(raw)]
    for start, end in pairwise(edges):
        if end > start:
            upstream.data_received(raw[start:end])
    return waiting


@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=8)), max_size=5))
def test_answers_on_one_connection_are_relayed_as_they_are(answers: list[tuple[bytes, list[int]]]) -> None:
    upstream = connection()
    for raw, cuts in answers:
        waiting = feed(upstream, raw, cuts)
        assert waiting.ends == [None]
        assert waiting.head + b"\r\n\r\n" + waiting.body == raw
        assert upstream.backend.take() is upstream


@given(st.sampled_from(ANSWERS), st.integers(0, 200), st.binary(min_size=1, max_size=30), st.lists(st.integers(0, 200)))
def test_damaged_answers_end_once_and_leave_no_connection(raw: bytes, at: int, damage: bytes, cuts: list[int]) -> None:
    upstream = connection()
    at %= len(raw) + 1
    waiting = feed(upstream, raw[:at] + damage + raw[at:], cuts)
    upstream.connection_lost(None)
    assert len(waiting.ends) == 1
    assert not upstream.backend.idle


@given(st.sampled_from(ANSWERS), st.integers(0, 200))
def test_an_answer_cut_short_is_never_complete(raw: bytes, at: int) -> None:
    upstream = connection()
    at %= len(raw)
    waiting = feed(upstream, raw[:at], [])
    upstream.connection_lost(None)
    (end,) = waiting.ends
    assert isinstance(end, UpstreamError)


@given(
    st.lists(
        st.sampled_from((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n")), max_size=4
    ),
    st.sampled_from(ANSWERS),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_interim_answers_are_skipped_wherever_the_bytes_are_cut(
    interims: list[bytes], raw: bytes, cuts: list[int]
) -> None:
    upstream = connection()
    for _ in range(2):
        waiting = feed(upstream, b"".join(interims) + raw, cuts)
        assert waiting.ends == [None]
        assert waiting.head + b"\r\n\r\n" + waiting.body == raw
        assert upstream.backend.take() is upstream


def test_an_interim_answer_with_a_body_is_ambiguous() -> None:
    raw = b"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\nab" + ANSWERS[0]
    (end,) = feed(connection(), raw, []).ends
    assert isinstance(end, UpstreamError)


@pytest.mark.parametrize("before", [b"\r\n", b"\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n\n\r\n"])
def test_line_ends_before_an_answer_are_no_status_line(before: bytes) -> None:
    """Found by fuzzing: they were relayed in the status line's place."""
    waiting = feed(connection(), before + ANSWERS[0], [])
    (end,) = waiting.ends
    assert isinstance(end, UpstreamError)
    assert waiting.head == b""


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.integers(0, 400))
def test_a_chunks_border_is_known_for_any_content(chunks: list[bytes], at: int) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    borders, raw = {len(head)}, head
    for data in chunks:
        raw += b"%x\r\n%b\r\n" % (len(data), data)
        borders.add(len(raw))
    at = min(at, len(raw) - len(head)) + len(head)
    upstream = connection()
    feed(upstream, raw[:at], [])
    in_size_line = not raw[:at].endswith(b"\r\n") and raw.rfind(b"\r\n", 0, at) + 2 in borders
    assert upstream.between_chunks == (at in borders) or in_size_line or raw[at - 1 : at] == b"\r"


def test_fields_about_the_connection_are_the_routers_own_business() -> None:
    raw = (
        b"HTTP/1.0 200 Fine\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nX: connection: y\r\nContent-Length: 0"
    )
    waiting = feed(connection(), raw + b"\r\n\r\n", [])
    assert waiting.head == b"HTTP/1.1 200 Fine\r\nX: connection: y\r\nContent-Length: 0"
