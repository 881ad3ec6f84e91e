"""What is known of each engine: its newest reading, and what was finished between the two newest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bes_router.policy.layout import Floats


class Tracker(Protocol):
    """The part of the load tracker that takes figures."""

    @property
    def own(self) -> Floats:
        """This router's requests in flight per engine."""
        ...

    @property
    def finished_own(self) -> Floats:
        """This router's requests finished so far per engine."""
        ...

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Floats,
        at: Sequence[float],
        served: tuple[float, float] | None = None,
    ) -> None:
        """Take requests in flight per engine (None: unknown), own ones of that instant, and that instant.

        ``served``: this router's and everybody's requests finished since the last time; None: engines do not say.
        """


@dataclass(frozen=True)
class Target:
    """One engine that figures are wanted of: ``engine`` is its number in the catalogue, ``join`` its label's value."""

    engine: int
    label: str
    address: str
    port: int
    gauges: tuple[str, ...]
    finished: str | None
    join: str


@dataclass(frozen=True)
class Reading:
    """One engine at the instant ``at`` (this router's monotonic clock).

    ``own`` and ``own_finished`` are this router's at that instant; ``finished`` is everybody's counter, None: unknown.
    """

    at: float
    in_flight: float
    own: float
    finished: float | None
    own_finished: float


class Board:
    """Readings per engine; ``count`` is the number of all engines of the catalogue."""

    def __init__(self, targets: Sequence[Target], count: int, stale_seconds: float, tracker: Tracker) -> None:
        self._targets = {target.engine: target for target in targets}
        self._readings: list[Reading | None] = [None] * count
        self._counted: list[Reading | None] = [None] * count
        self._stale_seconds = stale_seconds
        self._tracker = tracker
        self._served_own = 0.0
        self._served = 0.0
        self._counting = False

    def relist(self, targets: Sequence[Target], now: float) -> None:
        """Figures of ``targets`` are wanted from now on; nothing is known of a place that is another engine's now."""
        before, self._targets = self._targets, {target.engine: target for target in targets}
        for engine in before.keys() | self._targets.keys():
            if before.get(engine) != self._targets.get(engine):
                self._readings[engine] = self._counted[engine] = None
        self.hand_on(now)

    def lists(self, target: Target) -> bool:
        """Whether its figures are still wanted."""
        return self._targets.get(target.engine) == target

    def take(self, engine: int, reading: Reading | None) -> None:
        """Note what was found; None: nothing is known of it now. A reading no newer than the last is ignored."""
        last = self._readings[engine]
        if reading is not None and last is not None and reading.at <= last.at:
            return
        self._readings[engine] = reading
        if reading is None or reading.finished is None:
            return
        self._counting = True
        before, self._counted[engine] = self._counted[engine], reading
        if before is None or before.finished is None or reading.at <= before.at:
            return
        finished = reading.finished - before.finished
        if finished < 0.0:  # the engine was started anew
            return
        self._served += finished
        self._served_own += max(0.0, reading.own_finished - before.own_finished)

    def hand_on(self, now: float) -> None:
        """Give the tracker what is known at ``now``, and what was finished since the last time."""
        fresh = [reading if self._is_fresh(reading, now) else None for reading in self._readings]
        served = (self._served_own, self._served) if self._counting else None
        self._served_own = self._served = 0.0
        self._tracker.snapshot(
            [None if reading is None else reading.in_flight for reading in fresh],
            [0.0 if reading is None else reading.own for reading in fresh],
            [now if reading is None else reading.at for reading in fresh],
            served,
        )

    @property
    def newest_at(self) -> float | None:
        """When the newest figure was true."""
        return max((reading.at for reading in self._readings if reading is not None), default=None)

    def known(self, now: float) -> list[bool]:
        """Per engine, whether its figure is known at ``now``."""
        return [self._is_fresh(reading, now) for reading in self._readings]

    def coverage(self, now: float) -> float:
        """The share of listed backends whose figure is known at ``now``; 1 where none is listed."""
        known = self.known(now)
        found = [known[engine] for engine in self._targets]
        return sum(found) / len(found) if found else 1.0

    def _is_fresh(self, reading: Reading | None, now: float) -> bool:
        return reading is not None and reading.at > now - self._stale_seconds
