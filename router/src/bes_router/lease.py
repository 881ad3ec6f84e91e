"""One lease per answer: the only way to count a request as in flight at an engine, and it ends exactly once."""

from types import TracebackType
from typing import Self

from bes_router.policy.tracker import LoadTracker


class Lease:
    """A place at an engine, counted from before the request is sent until `release`, however the answer ends.

    Whoever holds the answer holds the lease and releases it in its single end; releasing again does nothing, so every
    path (complete, broken off, refused connection, client gone, cut off while draining) may release without asking.
    """

    __slots__ = ("_held", "_tracker", "engine")

    def __init__(self, tracker: LoadTracker, engine: int, now: float) -> None:
        self._tracker = tracker
        self.engine = engine
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
            self._tracker.finished(self.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
