"""Another machine's clock in terms of this router's monotonic one; wall clocks are never compared."""

from dataclasses import dataclass

MEMORY_SECONDS = 60.0
STAMP_SECONDS = 0.001
"""Prometheus writes instants in milliseconds."""


@dataclass(frozen=True)
class _Bounds:
    """The offset (theirs less ours) lies between these; ``at`` is when that was seen."""

    low: float
    high: float
    at: float


class RemoteClock:
    """Keeps the narrowest bounds of the last minute; newer bounds that contradict them mean that a clock was set."""

    def __init__(self) -> None:
        self._bounds: _Bounds | None = None

    def observe(self, sent: float, received: float, theirs: float) -> None:
        """Their clock said ``theirs`` at some instant between ``sent`` and ``received`` of ours."""
        seen = _Bounds(theirs - received - STAMP_SECONDS, theirs - sent + STAMP_SECONDS, received)
        kept = self._bounds
        if (
            kept is None
            or seen.high - seen.low <= kept.high - kept.low
            or received - kept.at > MEMORY_SECONDS
            or seen.low > kept.high
            or seen.high < kept.low
        ):
            self._bounds = seen

    def ours(self, theirs: float) -> float:
        """Their instant on our clock, to half of the quickest exchange. Raises LookupError before the first one."""
        if self._bounds is None:
            raise LookupError("their clock was never seen")
        return theirs - (self._bounds.low + self._bounds.high) / 2.0
