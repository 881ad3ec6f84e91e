"""Confidence intervals of paired differences by Student's t, whose quantile is computed here: whoever judges an
artifact has no SciPy."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev
from typing import NamedTuple

_PANELS = 512  # of Simpson's rule


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval; ``n`` pairs."""

    mean: float
    low: float
    high: float
    n: int


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """The two-sided interval of the mean difference over workloads, as independent draws of a wider family.

    One workload has no spread: its interval is the mean alone. Raises ValueError without any.
    """
    if not len(differences):
        raise ValueError("no pairs to compare; give both policies at least one workload")
    mean, count = fmean(differences), len(differences)
    if count == 1:
        return Interval(mean, mean, mean, 1)
    reach = t_quantile((1 + confidence) / 2, count - 1) * stdev(differences) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


@lru_cache(maxsize=64)
def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t with ``freedom`` degrees of freedom, for a probability in 0.5..1, to about 1e-7."""
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < probability else (low, middle)
    return high


def _t_below(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0: with t = sqrt(n) tan(a), the density becomes a power of the cosine (Simpson's rule)."""
    angle = math.atan(t / math.sqrt(freedom))
    heights = [math.cos(angle * panel / _PANELS) ** (freedom - 1) for panel in range(_PANELS + 1)]
    inner = 4 * math.fsum(heights[1:-1:2]) + 2 * math.fsum(heights[2:-2:2])
    integral = angle / _PANELS / 3 * (heights[0] + heights[-1] + inner)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * integral
