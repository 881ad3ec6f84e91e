"""Keys that want work: each once, one worker a key, a failed one again after a while. Knows nothing of Kubernetes.

Time is the event loop's own, so that a test whose loop jumps from timer to timer runs hours in a moment.
"""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bes_operator.settings import Backoff

K = TypeVar("K")
_LONGEST_WISH_SECONDS = 300.0


class Reports(Protocol):
    """What became of one pass."""

    def passed(self, seconds: float) -> None:
        """It did what there was to do."""

    def failed(self, key: object, error: Exception, seconds: float, again_in_seconds: float) -> None:
        """It will be tried again."""


@dataclass(frozen=True)
class Depth:
    """How much waits for a worker now."""

    keys: int
    oldest_seconds: float
    """For how long the oldest of them has been due."""


def delay_after(failures: int, backoff: Backoff, chance: float, wish_seconds: float | None) -> float:
    """Seconds to wait after that many failures. ``chance`` is in [0, 1); ``wish_seconds``: as we were asked."""
    whole = min(backoff.cap_seconds, backoff.first_seconds * 2.0 ** min(failures - 1, 60))
    return max(whole * (0.5 + chance / 2), min(wish_seconds or 0.0, _LONGEST_WISH_SECONDS))


class WorkQueue(Generic[K]):
    """Calls ``work`` for every key that was added, as often as it takes.

    ``work`` returns in how many seconds it wants to be called again (None: not before something happens); what it
    raises means a back-off. What is added while it runs means one more call.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        backoff: Backoff,
        workers: int,
        reports: Reports,
        chance: random.Random,
    ) -> None:
        self._work = work
        self._backoff = backoff
        self._workers = workers
        self._reports = reports
        self._chance = chance
        self._due: dict[K, float] = {}
        self._order: list[tuple[float, int, K]] = []  # a key may lie in it several times: only its entry in _due counts
        self._number = 0
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}
        self._working: dict[K, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def add(self, key: K, in_seconds: float = 0.0) -> None:
        """Work on ``key``, now or in a while; an earlier wish stands. After a failure it waits a moment at least."""
        due = max(_now() + in_seconds, self._not_before.get(key, 0.0))
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._number += 1
        heapq.heappush(self._order, (due, self._number, key))
        self._wake.set()

    def forget(self, key: K) -> None:
        """What is gone needs no work and has no failures."""
        for known in (self._due, self._failures, self._not_before):
            known.pop(key, None)

    def depth(self) -> Depth:
        """How much is due and not being worked on."""
        now = _now()
        waiting = [now - due for due in self._due.values() if due <= now]
        return Depth(len(waiting), max(waiting, default=0.0))

    async def run(self) -> None:
        """Until cancelled; then what is being worked on is cancelled too, and has ended when this returns."""
        try:
            while True:
                self._wake.clear()
                wait = self._start_what_is_due()
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = list(self._working.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_what_is_due(self) -> float | None:
        """Seconds until the next is due; None: nothing is, or every worker is busy."""
        later: list[tuple[float, int, K]] = []
        wait: float | None = None
        while self._order and len(self._working) < self._workers:
            due, number, key = heapq.heappop(self._order)
            if self._due.get(key) != due:
                continue
            if due > _now():
                heapq.heappush(self._order, (due, number, key))
                wait = due - _now()
                break
            if key in self._working:
                later.append((due, number, key))
                continue
            del self._due[key]
            self._working[key] = asyncio.create_task(self._one(key), name=f"work on {key}")
        for entry in later:
            heapq.heappush(self._order, entry)
        return wait

    async def _one(self, key: K) -> None:
        began = _now()
        try:
            again = await self._work(key)
        except Exception as error:  # noqa: BLE001 - the outermost loop: counted, logged and tried again
            self._failed(key, error, _now() - began)
        else:
            self._failures.pop(key, None)
            self._not_before.pop(key, None)
            self._reports.passed(_now() - began)
            if again is not None:
                self.add(key, again)
        finally:
            self._working.pop(key, None)
            self._wake.set()

    def _failed(self, key: K, error: Exception, seconds: float) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wish = getattr(error, "retry_after_seconds", None)
        delay = delay_after(failures, self._backoff, self._chance.random(), wish)
        self._not_before[key] = _now() + min(delay, max(self._backoff.first_seconds, wish or 0.0))
        self._reports.failed(key, error, seconds, delay)
        asked_meanwhile = self._due.pop(key, None) is not None
        self.add(key, 0.0 if asked_meanwhile else delay)


def _now() -> float:
    return asyncio.get_running_loop().time()
