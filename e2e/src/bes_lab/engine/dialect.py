"""What an engine's dialect has to say: everything that stands on the wire, and nothing about when."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson

from bes_api.engines.facts import Case
from bes_lab.engine.request import Limits, Rules, Wanted

DONE = b"data: [DONE]\n\n"
UNSUPPORTED: Mapping[str, tuple[object, ...]] = {
    "best_of": (1,),
    "prompt_logprobs": (),
    "suffix": (),
    "tool_choice": ("auto", "none"),
    "response_format": ({"type": "text"},),
    "use_beam_search": (False,),
}
"""Fields that would need a real model, in either dialect."""


class Identity(NamedTuple):
    """What every piece of one answer repeats."""

    name: str
    created: int
    model: str


class ErrorReply(NamedTuple):
    """An error as it goes out."""

    status: int
    body: bytes


@dataclass(slots=True)
class Counters:
    """What an engine has done since it started."""

    asked: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    length: int = 0
    """Requests that ended because they had all tokens that they asked for."""
    stop: int = 0
    """... because of a stop string."""
    aborted: int = 0


@dataclass(frozen=True)
class Reading:
    """An engine's state at one instant."""

    limits: Limits
    running: int
    waiting: int
    kv_tokens: int
    counters: Counters


class Dialect(Protocol):
    """One engine's API."""

    @property
    def rules(self) -> Rules:
        """What it accepts."""
        ...

    def error(self, case: Case, message: str, kind: str | None = None) -> ErrorReply:
        """An error; the documented message counts more than ``message``."""
        ...

    def refusal(self, status: int, message: str) -> ErrorReply:
        """An error with a status that the engine does not document (405, a commanded 5xx)."""
        ...

    def headers(self, wanted: Wanted, seconds: float) -> bytes:
        """Header lines of a whole answer beyond the common ones; ``seconds`` since the request came."""
        ...

    def whole(self, identity: Identity, wanted: Wanted) -> bytes:
        """The body of an answer that is not streamed."""
        ...

    def tokens(self, identity: Identity, wanted: Wanted, choice: int, first: int, until: int) -> bytes:
        """Events of the tokens ``first .. until - 1`` of a choice, and what stands before token 0."""
        ...

    def closing(self, identity: Identity, wanted: Wanted) -> bytes:
        """Events after the last token of all choices."""
        ...

    def models(self, limits: Limits, created: int) -> bytes:
        """The body of `/v1/models`."""
        ...

    def pages(self, limits: Limits) -> Mapping[bytes, bytes]:
        """Further pages that are answered to GET, by path."""
        ...

    def metrics(self, reading: Reading) -> str:
        """The metrics page."""
        ...


def event(document: Mapping[str, object]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"
