"""Confidence intervals of paired differences by Student's t, whose quantile is computed here (no SciPy for that)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
    values = np.asarray(differences, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, mean, mean, 1)
    error = float(values.std(ddof=1)) / math.sqrt(count)
    reach = t_quantile((1 + confidence) / 2, count - 1) * error
    return Interval(mean, mean - reach, mean + reach, count)


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
    heights = np.cos(np.linspace(0.0, angle, 513)) ** (freedom - 1)
    integral = angle / 512 / 3 * (heights[0] + heights[-1] + 4 * heights[1:-1:2].sum() + 2 * heights[2:-2:2].sum())
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * float(integral)
