"""Load source `direct`: reads every engine's own /metrics and hands the tracker requests in flight per engine.

Runs beside the data path. A figure that could not be read, or is older than `stale_after_seconds`, is unknown, never 0.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bes_api.router_config import DirectLoad
from bes_router import fetch
from bes_router.errors import UpstreamError
from bes_router.policy.layout import Floats

log = logging.getLogger(__name__)


class Figures(Protocol):
    """The part of the load tracker that takes figures."""

    @property
    def own(self) -> Floats:
        """This router's requests in flight per engine."""
        ...

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Floats,
        at: Sequence[float],
        served: tuple[float, float] | None = None,
    ) -> None:
        """Take requests in flight per engine (None: unknown), each true at its ``at``, with own counts of then."""
        ...


class Address(Protocol):
    """Where an engine is."""

    engine: int
    address: str
    port: int


@dataclass(frozen=True)
class Reading:
    """One engine's figure, own requests in flight when it came, and when that was."""

    count: float
    own: float
    at: float


def requests_in_flight(exposition: bytes, names: Sequence[bytes]) -> float | None:
    """The sum of all series called one of ``names``; None unless each is there, finite and not below 0."""
    total = 0.0
    for name in names:
        found = False
        at = exposition.find(name)
        while at >= 0:
            end = exposition.find(b"\n", at)
            line = exposition[at : end if end >= 0 else len(exposition)]
            if (at == 0 or exposition[at - 1 : at] == b"\n") and line[len(name) : len(name) + 1] in {b"{", b" ", b"\t"}:
                value = _value(line[len(name) :])
                if value is None:
                    return None
                total += value
                found = True
            at = exposition.find(name, at + len(name))
        if not found:
            return None
    return total


def _value(rest: bytes) -> float | None:
    """The value of a series, given what follows its name."""
    text = rest.rpartition(b"}")[2].split()
    try:
        value = float(text[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


class DirectSource:
    """Polls ``engines`` (those that have an address) every interval; ``count`` is the number of all engines."""

    def __init__(self, engines: Sequence[Address], count: int, settings: DirectLoad, figures: Figures) -> None:
        self._engines = tuple(engines)
        self._readings: list[Reading | None] = [None] * count
        self._settings = settings
        self._figures = figures
        self._names = tuple(name.encode() for name in settings.metrics)
        self._complained: set[int] = set()

    @property
    def newest_at(self) -> float | None:
        """When the newest figure was read."""
        return max((reading.at for reading in self._readings if reading is not None), default=None)

    def known(self, now: float) -> list[bool]:
        """Per engine, whether its figure is known at ``now``."""
        stale = now - self._settings.stale_after_seconds
        return [reading is not None and reading.at > stale for reading in self._readings]

    async def run(self) -> None:
        """Poll for ever, at a steady pace."""
        due = time.monotonic()
        while True:
            await self.poll()
            due = max(due + self._settings.interval_seconds, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def poll(self) -> None:
        """Read every engine once, side by side, and hand on what this round found; the rest is unknown."""
        began = time.monotonic()
        await asyncio.gather(*map(self._read, self._engines))
        round_ = [reading if reading is not None and reading.at >= began else None for reading in self._readings]
        self._figures.snapshot(
            [None if reading is None else reading.count for reading in round_],
            [0.0 if reading is None else reading.own for reading in round_],
            [began if reading is None else reading.at for reading in round_],
        )

    async def _read(self, engine: Address) -> None:
        limit = min(self._settings.interval_seconds, self._settings.stale_after_seconds)
        try:
            status, body = await fetch.get(engine.address, engine.port, "/metrics", limit)
        except UpstreamError as error:
            self._complain(engine, str(error))
            return
        own, at = self._figures.own[engine.engine], time.monotonic()
        count = requests_in_flight(body, self._names) if status == 200 else None
        if count is None:
            wanted = ", ".join(self._settings.metrics)
            self._complain(engine, f"{engine.address}:{engine.port}/metrics (status {status}) does not give {wanted}")
            return
        self._complained.discard(engine.engine)
        self._readings[engine.engine] = Reading(count, own, at)

    def _complain(self, engine: Address, problem: str) -> None:
        """Log an engine's first failure in a row, not each of them."""
        if engine.engine not in self._complained:
            self._complained.add(engine.engine)
            log.warning("load figures unknown: %s", problem)
