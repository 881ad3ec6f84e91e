"""Who takes part in an exchange beside it: the client's side, and whoever decided and accounts for it."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from bes_router.errors import Reason, UpstreamError

if TYPE_CHECKING:
    from bes_router.relay import Exchange


class Client(Protocol):
    """The client's side of an exchange."""

    @property
    def writable(self) -> bool:
        """False while the client takes nothing."""
        ...

    def begin(self, head: bytes, must_close: bool, data: bytes) -> None:
        """Write an answer's head (it lacks its empty line) and first bytes; ``must_close``: its end is EOF."""

    def write(self, data: bytes) -> None:
        """Write raw bytes of the answer."""

    def complete(self, now: float) -> None:
        """The answer is written; the next request may be read."""

    def refuse(self, error: UpstreamError) -> None:
        """Nothing of an answer was written yet: write the router's own."""

    def cut(self, last: bytes = b"") -> None:
        """Close in the middle of an answer, so that the client cannot take it for whole; ``last`` still reaches it."""


class Failure(NamedTuple):
    """Why an attempt gave nothing to relay; with a ``status``, the engine's own refusal, whole."""

    error: UpstreamError
    status: int = 0
    head: bytes = b""
    until_close: bool = False
    data: bytes = b""


class Outcome(Protocol):
    """Where an exchange reports to; exactly one of `ended`, `missed`, `failed` and `gave_up`, once."""

    def again(self, exchange: "Exchange", failure: Failure, now: float) -> bool:
        """An attempt failed before anything was relayed. True: the exchange has another backend and lease to go on."""
        ...

    def first_byte(self, exchange: "Exchange", now: float) -> None:
        """The first byte of the body has come, of a request for a stream."""

    def usage_seen(self, exchange: "Exchange", tail: bytes) -> None:
        """The last bytes, of a whole answer whose exchange has ``characters``."""

    def paused(self, exchange: "Exchange") -> None:
        """The client takes nothing for now."""

    def ended(self, exchange: "Exchange", now: float) -> None:
        """The engine's answer is complete, whatever its status, and was relayed."""

    def missed(self, exchange: "Exchange", now: float) -> None:
        """The deadline passed and the request was aborted."""

    def failed(self, exchange: "Exchange", reason: Reason, now: float) -> None:
        """The answer ended in its middle, or the client has gone."""

    def gave_up(self, exchange: "Exchange", reason: Reason, now: float) -> None:
        """Nothing was relayed and nobody is left to ask. ``exchange.status``: of an engine's own refusal, or 0."""
