"""This router's own counts over the last minute or so, so that a figure is set against those of its own instant."""

import numpy as np
from numpy.typing import NDArray

from bes_router.policy.layout import Floats

STEP_SECONDS = 0.05


class OwnHistory:
    """Own requests in flight and finished, per engine; ``span_seconds`` is how far it reaches back."""

    def __init__(self, engines: int, span_seconds: float, step_seconds: float = STEP_SECONDS) -> None:
        places = int(span_seconds / step_seconds) + 2
        self._engines = engines
        self._times: NDArray[np.float64] = np.full(places, -np.inf)
        self._values: NDArray[np.float64] = np.zeros((places, 2 * engines))
        self._next = 0

    def record(self, now: float, own: Floats, finished: Floats) -> None:
        """Note the counts of ``now``, which never runs backwards."""
        place = self._next
        self._times[place] = now
        self._values[place] = [
            *(own[engine] for engine in range(self._engines)),
            *(finished[engine] for engine in range(self._engines)),
        ]
        self._next = (place + 1) % len(self._times)

    def at(self, instant: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Own requests in flight and finished at ``instant``, interpolated; None: before what it remembers.

        Where the first record shows a router that had done nothing yet, it had done nothing before either. After the
        newest record nothing is known to have changed.
        """
        times = np.roll(self._times, -self._next)
        right = int(np.searchsorted(times, instant))  # the first record not before ``instant``
        if right == len(times):
            return self._split(self._values[self._next - 1])
        after = self._values[(self._next + right) % len(times)]
        left = right - 1
        if left < 0 or times[left] == -np.inf:
            forgotten = left < 0 or (times[right] > instant and bool(after.any()))
            return None if forgotten else self._split(after)
        before = self._values[(self._next + left) % len(times)]
        part = (instant - times[left]) / (times[right] - times[left])
        return self._split(before + part * (after - before))

    def _split(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return values[: self._engines].copy(), values[self._engines :].copy()
