"""What a client made of each answer: whole, refused, visibly broken, or (which must never be) torn or another's."""

import json
from enum import StrEnum

from pydantic import TypeAdapter

from bes_api.scenario import Frozen

OUTPUT_TOKENS = 8


class Kind(StrEnum):
    """How one request ended for its client."""

    ANSWERED = "answered"
    """200, complete, and its own."""
    REFUSED = "refused"
    """Another status, complete, in OpenAI's shape."""
    BROKEN = "broken"
    """An answer began and visibly did not end: cut off, or an error event in its stream."""
    LOST = "lost"
    """The connection ended without a byte of an answer, or there was none."""
    SILENT = "silent"
    """The client gave up waiting."""
    TORN = "torn"
    """Whole by its framing, and not whole: a client would take it for an answer."""
    FOREIGN = "foreign"
    """It repeats another request's prompt."""


SPOILED = frozenset({Kind.TORN, Kind.FOREIGN})


class Seen(Frozen):
    """One request as its client saw it; instants are of the system's monotonic clock, 0 where there was none."""

    number: int
    router: int
    """The one that it was last sent to."""
    task: str
    stream: bool
    due: float
    sent: float = 0.0
    began: float = 0.0
    """The first byte of the answer."""
    ended: float = 0.0
    status: int = 0
    kind: Kind = Kind.LOST
    model: str = ""
    note: str = ""
    reached: bool = True
    """Whether any router took the connection."""


SEEN = TypeAdapter(list[Seen])


def prompt_of(number: int, seed: int) -> str:
    """A prompt that only this request has; engines are told to repeat it."""
    return f"request {seed}.{number} of the campaign,"


def body_of(number: int, seed: int, task: str, stream: bool) -> bytes:
    """The request's body."""
    document: dict[str, object] = {"model": task, "prompt": prompt_of(number, seed), "max_tokens": OUTPUT_TOKENS}
    return json.dumps({**document, "echo": True, "stream": stream}).encode()


def kind_of(status: int, stream: bool, body: bytes, prompt: str) -> Kind:
    """What an answer is that is complete by its framing."""
    if status != 200:
        return Kind.REFUSED if _is_error(body) else Kind.TORN
    text = _streamed(body) if stream else _whole(body)
    if text is None:
        return Kind.TORN
    if isinstance(text, Kind):
        return text
    if not text.startswith(prompt):
        return Kind.FOREIGN
    return Kind.ANSWERED if len(text.removeprefix(prompt).split()) == OUTPUT_TOKENS else Kind.TORN


def _is_error(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except ValueError:
        return False
    error = document.get("error") if isinstance(document, dict) else None
    return isinstance(error, dict) and bool(error.get("message"))


def _whole(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["choices"][0]["text"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _streamed(body: bytes) -> str | Kind | None:
    events = body.split(b"\n\n")
    if events.pop():
        return None
    if events and b'"error"' in events[-1]:
        return Kind.BROKEN
    if not events or events.pop() != b"data: [DONE]":
        return None
    pieces = [_whole(event.removeprefix(b"data: ")) for event in events]
    return None if None in pieces else "".join(map(str, pieces))
