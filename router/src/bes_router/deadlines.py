"""Deadlines of requests that are aborted when they miss them: slots of time, one timer, no work for who is done."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

SLOT_SECONDS = 0.005
"""An abort comes up to this much later than its deadline, never earlier."""

T = TypeVar("T")


class DeadlineWheel(Generic[T]):
    """Calls ``expire(item, now)`` once for every item, soon after its instant. Items that ended stay until then."""

    def __init__(self, expire: Callable[[T, float], None]) -> None:
        self._expire = expire
        self._slots: dict[int, list[T]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0

    def add(self, item: T, at: float) -> None:
        """Expire ``item`` from the monotonic instant ``at`` on. Needs a running loop."""
        slot = int(at / SLOT_SECONDS) + 1
        items = self._slots.get(slot)
        if items is not None:
            items.append(item)
            return
        self._slots[slot] = [item]
        if self._timer is None or slot < self._armed:
            self._arm(slot)

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = slot
        delay = max(0.0, slot * SLOT_SECONDS - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        reached = int(now / SLOT_SECONDS)
        for slot in sorted(slot for slot in self._slots if slot <= reached):
            for item in self._slots.pop(slot):
                self._expire(item, now)
        if self._slots and self._timer is None:
            self._arm(min(self._slots))
