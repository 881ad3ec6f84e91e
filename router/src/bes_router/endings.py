"""How the router itself words an exchange's bad end: a whole answer, or an error event in a stream that has begun."""

from typing import NamedTuple

from bes_router.errors import RETRY_AFTER_SECONDS, Reason, UpstreamError
from bes_router.http1 import Header
from bes_router.openai import error_body

LAST_CHUNK = b"0\r\n\r\n"
_TOO_LATE = frozenset({Reason.SILENT, Reason.DEADLINE})


class Refusal(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[Header, ...]


class LastWords(NamedTuple):
    """Bytes for a client in the middle of a stream: an event, and what ends the body (empty: closing does)."""

    event: bytes
    end: bytes


def status_of(reason: Reason) -> int:
    """504 for what took too long, else 503."""
    return 504 if reason in _TOO_LATE else 503


def refusal(error: UpstreamError) -> Refusal:
    """The answer to a request of which nothing was relayed; it says nothing of the engines behind."""
    if error.reason is Reason.DEADLINE:
        message = "the deadline passed before the request was answered"
        return Refusal(504, error_body(504, message, code=error.reason), ())
    status = status_of(error.reason)
    body = error_body(status, "the request could not be served just now; try again", code=error.reason)
    return Refusal(status, body, ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),))


def last_words(head: bytes, last: bytes, between_chunks: bool, error: UpstreamError) -> LastWords | None:
    """An error event in the framing of ``head``, a relayed answer whose last relayed bytes are ``last``.

    None where an event cannot stand: the answer is no event stream, has a length, or is in the middle of an event.
    """
    fields = head.lower()
    if b"\r\ncontent-type: text/event-stream" not in fields or b"\r\ncontent-length:" in fields:
        return None
    event = b"data: %b\n\n" % error_body(status_of(error.reason), str(error), code=error.reason)
    if b"\r\ntransfer-encoding:" not in fields:
        return LastWords(event, b"") if not last or last.endswith(b"\n\n") else None
    if not between_chunks or (last and not last.endswith(b"\n\n\r\n")):
        return None
    return LastWords(b"%x\r\n%b\r\n" % (len(event), event), LAST_CHUNK)
