"""Load source `direct`: reads every engine's own /metrics, all of them side by side."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from bes_api.router_config import DirectLoad
from bes_router import fetch
from bes_router.errors import UpstreamError
from bes_router.load.board import Board, Reading, Target, Tracker
from bes_router.load.tally import Tally

log = logging.getLogger(__name__)


def sum_of_series(exposition: bytes, name: bytes) -> float | None:
    """The sum of all series called ``name``; None where there is none, or one is not finite or below 0."""
    total, found = 0.0, False
    at = exposition.find(name)
    while at >= 0:
        end = exposition.find(b"\n", at)
        line = exposition[at : end if end >= 0 else len(exposition)]
        if (at == 0 or exposition[at - 1 : at] == b"\n") and line[len(name) : len(name) + 1] in {b"{", b" ", b"\t"}:
            value = _value(line[len(name) :])
            if value is None:
                return None
            total, found = total + value, True
        at = exposition.find(name, at + len(name))
    return total if found else None


def requests_in_flight(exposition: bytes, names: Sequence[bytes]) -> float | None:
    """The sum of all series called one of ``names``; None unless each is there, finite and not below 0."""
    found = [sum_of_series(exposition, name) for name in names]
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _value(rest: bytes) -> float | None:
    """The value of a series, given what follows its name."""
    text = rest.rpartition(b"}")[2].split()
    try:
        value = float(text[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


class DirectSource:
    """Polls ``targets`` every interval; ``count`` is the number of all engines."""

    name = "direct"

    def __init__(self, targets: Sequence[Target], count: int, settings: DirectLoad, tracker: Tracker) -> None:
        self._targets = tuple(targets)
        self._settings = settings
        self._tracker = tracker
        self._complained: set[int] = set()
        self.board = Board(targets, count, settings.stale_seconds, tracker)
        self.tally = Tally()

    def relist(self, targets: Sequence[Target]) -> None:
        """See `Source`."""
        self._targets = tuple(targets)
        self._complained.clear()
        self.board.relist(self._targets, time.monotonic())

    async def run(self) -> None:
        """Poll for ever, at a steady pace."""
        due = time.monotonic()
        while True:
            await self.poll()
            due = max(due + self._settings.interval_seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def poll(self) -> None:
        """Read every engine once, side by side, and hand on what this round found; the rest is unknown."""
        self.tally.problem = ""
        await asyncio.gather(*map(self._read, self._targets))
        self.board.hand_on(time.monotonic())

    async def _read(self, target: Target) -> None:
        limit = min(self._settings.interval_seconds, self._settings.stale_seconds)
        began = time.monotonic()
        try:
            status, body = await fetch.get(target.address, target.port, "/metrics", limit)
        except UpstreamError as error:
            self._failed(target, str(error))
            return
        finally:
            self.tally.seconds.observe(time.monotonic() - began)
        if not self.board.lists(target):  # left meanwhile, and its place may be another's
            return
        own, own_finished = self._tracker.own[target.engine], self._tracker.finished_own[target.engine]
        count = requests_in_flight(body, [name.encode() for name in target.gauges]) if status == 200 else None
        if count is None:
            wanted = ", ".join(target.gauges)
            self._failed(target, f"{target.address}:{target.port}/metrics (status {status}) does not give {wanted}")
            return
        self._complained.discard(target.engine)
        finished = sum_of_series(body, target.finished.encode()) if target.finished else None
        self.board.take(target.engine, Reading(time.monotonic(), count, own, finished, own_finished))

    def _failed(self, target: Target, problem: str) -> None:
        """Forget the engine's figure; log its first failure in a row, not each of them."""
        if not self.board.lists(target):
            return
        self.board.take(target.engine, None)
        self.tally.errors += 1
        self.tally.problem = problem
        if target.engine not in self._complained:
            self._complained.add(target.engine)
            log.warning("load figures unknown: %s", problem)
