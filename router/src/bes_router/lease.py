"""One lease per answer: the only way to count a request as in flight at an engine, and it ends exactly once."""

from types import TracebackType
from typing import Protocol, Self

MOST_SEQUENCES = 256
"""Beyond, engines queue whatever comes, and counting would hold the router up."""


class Counter(Protocol):
    """Counts requests in flight."""

    def sent(self, engine: int, now: float) -> None:
        """One more at ``engine``."""

    def finished(self, engine: int) -> None:
        """One less there."""


class Departed:
    """Requests at engines that are no longer listed: they end where they are, and count for admission alone."""

    def __init__(self) -> None:
        self.in_flight = 0

    def sent(self, engine: int, now: float) -> None:  # noqa: ARG002 - as `Counter` says it
        """See `Counter`."""
        self.in_flight += 1

    def finished(self, engine: int) -> None:  # noqa: ARG002 - as `Counter` says it
        """See `Counter`."""
        self.in_flight -= 1


class Lease:
    """A place at an engine, counted from before the request is sent until `release`, however the answer ends.

    Whoever holds the answer holds the lease and releases it in its single end; releasing again does nothing, so every
    path (complete, broken off, refused connection, client gone, cut off while draining) may release without asking.
    """

    __slots__ = ("_held", "_sequences", "_tracker", "engine")

    def __init__(self, tracker: Counter, engine: int, now: float, sequences: int = 1) -> None:
        """Count ``sequences`` answers generated side by side, as engines count them."""
        self._tracker = tracker
        self._sequences = min(sequences, MOST_SEQUENCES)
        self.engine = engine
        for _ in range(self._sequences):
            tracker.sent(engine, now)
        self._held = True

    @property
    def held(self) -> bool:
        """Whether the request still counts."""
        return self._held

    def release(self) -> None:
        """Stop counting."""
        if self._held:
            self._held = False
            for _ in range(self._sequences):
                self._tracker.finished(self.engine)

    def move(self, tracker: Counter, engine: int, now: float) -> None:
        """Count at another tracker from now on: the configuration that numbers engines is a new one, or this left."""
        if self._held:
            self.release()
            self._tracker, self.engine, self._held = tracker, engine, True
            for _ in range(self._sequences):
                tracker.sent(engine, now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
