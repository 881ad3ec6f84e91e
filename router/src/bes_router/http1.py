"""HTTP/1.1 heads and chunked bodies as bytes: strict where two readers could disagree, no I/O, no routing.

httptools (llhttp) reads heads. What it would let pass and another reader might see differently (bare LF, obs-fold, any
Transfer-Encoding but `chunked`, repeated framing fields) is refused on the raw bytes first (RFC 9112, 6.3 and 11.2).
"""

import re
from collections.abc import Iterable
from http import HTTPStatus

import httptools

from bes_router.errors import MalformedMessageError, Reason

HEAD_END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_CHUNK_LINE = 256  # a chunk's size with extensions; real ones have a few bytes
MAX_TRAILER = 4096
_HEX = frozenset(b"0123456789abcdefABCDEF")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host", b"expect"})  # at most once each
OWN_PREFIX = b"x-bes-"  # of the fields that are between clients and the router; at most once each, too
# Not for the engine: hop-by-hop fields (RFC 9110, 7.6.1), what the router writes itself, and the client's credentials,
# which are meant for this service and not for the program behind it.
NOT_FORWARDED = _FRAMING | {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
    b"authorization",
    b"cookie",
    b"content-type",
}
Header = tuple[bytes, bytes]
_PLAIN_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,18})\r\n")


class RequestHead:
    """One request's head. Field names are lower case; ``forwarded`` are the fields that travel on, as bytes.

    ``own`` are those meant for the router alone, by name.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "expects_continue",
        "forwarded",
        "headers",
        "keep_alive",
        "method",
        "own",
        "path",
        "target",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = b""  # of the target, see path_of
        self.headers: list[Header] = []
        self.own: dict[bytes, bytes] = {}
        self.forwarded = b""
        self.content_length = 0
        self.chunked = False
        self.keep_alive = True
        self.expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target (httptools' callback)."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field (httptools' callback)."""
        self.headers.append((name.lower(), value))


def parse_request_head(raw: bytes) -> RequestHead:
    """Parse a head that ends with an empty line. Raises MalformedMessageError."""
    refuse_bare_line_ends(raw)
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise MalformedMessageError("a header field is folded over two lines; write it on one line")
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer to switch protocols may be ignored (RFC 9110, 7.8); CONNECT finds no such path
    except httptools.HttpParserError as error:
        raise MalformedMessageError(f"the request's head is not HTTP/1.1: {error}") from None
    if parser.get_http_version() != "1.1":
        raise MalformedMessageError("only HTTP/1.1 is spoken here; send the request as HTTP/1.1", status=505)
    head.method = parser.get_method()
    head.path = path_of(head.target)
    _read_fields(head)
    return head


def path_of(target: bytes) -> bytes:
    """The target without query, and without scheme and authority if it came in absolute form."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/") and b"://" in path:
        return b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path


def refuse_bare_line_ends(raw: bytes) -> None:
    """Refuse CR without LF and LF without CR in (the beginning of) a head; a CR at the very end may get its LF yet."""
    ends = raw.count(b"\r\n")
    if raw.count(b"\n") != ends or raw.count(b"\r") - raw.endswith(b"\r") != ends:
        raise MalformedMessageError("a line of the head does not end with CR LF; end every line with both")


def _read_fields(head: RequestHead) -> None:
    """Take what frames and routes from the fields, and write those that travel on to the engine."""
    seen: dict[bytes, bytes] = {}
    kept = []
    named: frozenset[bytes] | set[bytes] = frozenset()
    for field in head.headers:
        name = field[0]
        if name.startswith(OWN_PREFIX):
            _once(head.own, field)
        elif name not in NOT_FORWARDED:
            kept.append(field)
        elif name in _FRAMING:
            _once(seen, field)
        elif name == b"connection":
            named = named | tokens(field[1])
    if b"host" not in seen:
        raise MalformedMessageError("the header field host is missing; HTTP/1.1 requires it")
    head.keep_alive = b"close" not in named
    head.forwarded = b"".join([b"%b: %b\r\n" % field for field in kept if field[0] not in named])
    _read_framing(head, seen.get(b"content-length"), seen.get(b"transfer-encoding"))
    head.expects_continue = seen.get(b"expect", b"").lower() == b"100-continue"


def _once(seen: dict[bytes, bytes], field: Header) -> None:
    name, value = field
    if name in seen:
        raise MalformedMessageError(f"the header field {name.decode()} is there twice; send it once")
    seen[name] = value


def _read_framing(head: RequestHead, length: bytes | None, coding: bytes | None) -> None:
    if length is not None and coding is not None:
        raise MalformedMessageError("content-length and transfer-encoding together are ambiguous; send one of them")
    if length is not None:
        digits = length.strip(b" \t")
        if not digits.isdigit() or len(digits) > 18:
            raise MalformedMessageError("content-length is not a plain number of bytes")
        head.content_length = int(digits)
    elif coding is not None:
        if coding.strip(b" \t").lower() != b"chunked":
            raise MalformedMessageError("the only transfer-encoding understood here is chunked", status=501)
        head.chunked = True


def tokens(value: bytes) -> set[bytes]:
    """The members of a comma-separated field, lower case."""
    return {token.strip().lower() for token in value.split(b",")}


class HeadCache:
    """Heads that were parsed lately: a client repeats its head word for word, but for the length of the body.

    The key is the whole head without the digits of one plain content-length line. Whatever made the first such head
    acceptable is in the key, so the same key is acceptable with any other number of at most 18 digits.
    """

    def __init__(self, size: int = 256, max_bytes: int = 2048) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._size = size
        self._max_bytes = max_bytes

    def parse(self, raw: bytes) -> tuple[RequestHead, int]:
        """The head (shared: not to be changed) and its content-length. Raises MalformedMessageError."""
        match = _PLAIN_LENGTH.search(raw)
        if match is None:
            head = parse_request_head(raw)
            return head, head.content_length
        start, end = match.span(1)
        key = raw[:start] + raw[end:]
        cached = self._heads.get(key)
        if cached is not None:
            return cached, int(raw[start:end])
        head = parse_request_head(raw)
        if len(key) <= self._max_bytes:
            if len(self._heads) >= self._size:
                self._heads.clear()
            self._heads[key] = head
        return head, head.content_length


class ChunkedBody:
    """Decoder of one chunked body. Strict: CR LF only, plain hexadecimal sizes, bounded everything."""

    __slots__ = ("_buffer", "_max_bytes", "_payload", "_size", "_total", "_trailer")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._payload = bytearray()
        self._total = 0
        self._size = -1  # of the chunk being read; -1 = a line comes next
        self._trailer = -1  # bytes of trailer seen; -1 = not there yet

    @property
    def payload(self) -> bytes:
        """What was decoded so far."""
        return bytes(self._payload)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; None while the body goes on, else the bytes behind its end. Raises MalformedMessageError."""
        buffer = self._buffer
        buffer += data
        at = 0
        while True:
            if self._size >= 0:
                end = at + self._size
                if len(buffer) < end + 2:
                    break
                if buffer[end : end + 2] != b"\r\n":
                    raise MalformedMessageError("a chunk is not as long as its size says")
                self._payload += buffer[at:end]
                self._size = -1
                at = end + 2
                continue
            end = buffer.find(b"\r\n", at)
            if end < 0:
                limit = MAX_CHUNK_LINE if self._trailer < 0 else MAX_TRAILER
                if len(buffer) - at > limit or buffer.find(b"\n", at) >= 0:
                    raise MalformedMessageError("a line of the chunked body is too long or not ended by CR LF")
                break
            line = bytes(buffer[at:end])
            at = end + 2
            if self._trailer < 0:
                self._start_chunk(line)
            elif line:
                self._skip_trailer(line)
            else:
                return bytes(buffer[at:])
        del buffer[:at]
        return None

    def _start_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0]
        if not digits or len(digits) > 15 or not _HEX.issuperset(digits) or len(line) > MAX_CHUNK_LINE:
            raise MalformedMessageError("a chunk's size is not a plain hexadecimal number")
        if b"\n" in line or b"\r" in line:
            raise MalformedMessageError("a chunk's size line is not ended by CR LF")
        size = int(digits, 16)
        self._total += size
        if self._total > self._max_bytes:
            raise MalformedMessageError(
                f"the body is larger than {self._max_bytes} bytes; send less", status=413, reason=Reason.TOO_LARGE
            )
        if size:
            self._size = size
        else:
            self._trailer = 0

    def _skip_trailer(self, line: bytes) -> None:
        self._trailer += len(line)
        if self._trailer > MAX_TRAILER or b"\n" in line or b"\r" in line:
            raise MalformedMessageError("the chunked body's trailer is too long or not ended by CR LF")


def response(
    status: int,
    body: bytes,
    headers: Iterable[Header] = (),
    *,
    content_type: bytes = b"application/json",
    close: bool = False,
) -> bytes:
    """A whole response of the router's own."""
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        b"content-type: " + content_type,
        b"content-length: %d" % len(body),
    ]
    lines += [name + b": " + value for name, value in headers]
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + HEAD_END + body
