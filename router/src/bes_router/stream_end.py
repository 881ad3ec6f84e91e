"""How a stream that has begun can still say that it ends badly: an error event, where framing leaves room for one."""

from typing import NamedTuple

from bes_router.errors import Reason, UpstreamError
from bes_router.openai import error_body

LAST_CHUNK = b"0\r\n\r\n"


class LastWords(NamedTuple):
    """Bytes for a client in the middle of a stream: an event, and what ends the body (empty: closing does)."""

    event: bytes
    end: bytes


def last_words(head: bytes, last: bytes, between_chunks: bool, error: UpstreamError) -> LastWords | None:
    """An error event in the framing of ``head``, a relayed answer whose last relayed bytes are ``last``.

    None where an event cannot stand: the answer is no event stream, has a length, or is in the middle of an event.
    """
    fields = head.lower()
    if b"\r\ncontent-type: text/event-stream" not in fields or b"\r\ncontent-length:" in fields:
        return None
    status = 504 if error.reason in {Reason.DEADLINE, Reason.SILENT} else 503
    event = b"data: %b\n\n" % error_body(status, str(error), code=error.reason)
    if b"\r\ntransfer-encoding:" not in fields:
        return LastWords(event, b"") if not last or last.endswith(b"\n\n") else None
    if not between_chunks or (last and not last.endswith(b"\n\n\r\n")):
        return None
    return LastWords(b"%x\r\n%b\r\n" % (len(event), event), LAST_CHUNK)
