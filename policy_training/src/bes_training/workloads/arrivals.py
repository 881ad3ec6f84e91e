"""Arrival instants from a rate over time: one renewal process in operational time, mapped through the summed rate.

Every generator is a ``RateProfile``; gaps are exponential where ``cv`` is 1 (Poisson) and Gamma distributed elsewhere.
"""

import math
from typing import NamedTuple, Self

import numpy as np

from bes_training.workloads.workload import Floats


class RateProfile(NamedTuple):
    """A piecewise constant rate: segment i lasts from ``edges[i]`` to ``edges[i + 1]`` (seconds, from 0)."""

    edges: Floats  # [S + 1]
    rate: Floats  # [S] requests per second
    cv: Floats  # [S] coefficient of variation of the gaps; 1 = Poisson

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.edges[-1])

    @property
    def mean_rate(self) -> float:
        """Requests per second over the whole profile."""
        return float(self.rate @ np.diff(self.edges)) / self.duration

    def scaled_to(self, mean_rate: float) -> Self:
        """The same shape with another mean rate."""
        return self._replace(rate=self.rate * (mean_rate / self.mean_rate))

    def with_cv(self, factor: float) -> Self:
        """Gaps ``factor`` times as variable."""
        return self._replace(cv=self.cv * factor)

    def stretched(self, factor: float) -> Self:
        """The same rates, each lasting ``factor`` times as long."""
        return self._replace(edges=self.edges * factor)


def constant(rate: float, duration: float, cv: float = 1.0) -> RateProfile:
    """Poisson (``cv`` 1) or Gamma gaps at one rate."""
    return RateProfile(np.array([0.0, duration]), np.array([rate]), np.array([cv]))


def arrivals(rng: np.random.Generator, profile: RateProfile) -> Floats:
    """Arrival instants in ``[0, duration)``, sorted. The expected number is exactly the integral of the rate."""
    summed = np.concatenate(([0.0], np.cumsum(profile.rate * np.diff(profile.edges))))
    if (profile.cv == profile.cv[0]).all():
        operational = _renewal(rng, float(summed[-1]), float(profile.cv[0]))
    else:
        parts = [
            start + _renewal(rng, end - start, cv)
            for start, end, cv in zip(summed[:-1].tolist(), summed[1:].tolist(), profile.cv.tolist(), strict=True)
        ]
        operational = np.concatenate(parts)
    return np.interp(operational, summed, profile.edges)


def _renewal(rng: np.random.Generator, length: float, cv: float) -> Floats:
    """Points of a stationary renewal process with mean gap 1 on ``[0, length)``.

    The first gap is drawn from the equilibrium law (a uniform share of a length-biased gap): without it a process with
    CV 4 would hold (4^2 - 1) / 2 = 7.5 points more than ``length`` (Cox, Renewal Theory, 1962, sections 4.2 and 5.2).
    """
    if length <= 0:
        return np.empty(0)
    square = cv * cv
    poisson = abs(cv - 1.0) < 1e-9
    chunk = int(length + 3 * cv * math.sqrt(length)) + 16
    gaps = rng.standard_exponential(chunk) if poisson else rng.gamma(1 / square, square, chunk)
    if not poisson:
        gaps[0] = rng.random() * rng.gamma(1 / square + 1, square)
    points = np.cumsum(gaps)
    while points[-1] < length:
        gaps = rng.standard_exponential(chunk) if poisson else rng.gamma(1 / square, square, chunk)
        points = np.concatenate((points, points[-1] + np.cumsum(gaps)))
    return points[: np.searchsorted(points, length)]
