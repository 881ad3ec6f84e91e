"""Random laws of the rate over time: Markov-modulated bursts and random walks ("unpredictable" traffic)."""

import math

import numpy as np

from bes_training.workloads.arrivals import RateProfile
from bes_training.workloads.workload import Floats


def markov_modulated(
    rng: np.random.Generator, rates: Floats, mean_dwell_seconds: Floats, duration: float
) -> RateProfile:
    """A Markov-modulated Poisson process over K >= 2 states: exponential dwell times, then a jump to another state.

    The first state is drawn by its long-run share of time, every later one uniformly among the others.
    """
    states = len(rates)
    shares = mean_dwell_seconds / mean_dwell_seconds.sum()
    state = int(np.searchsorted(np.cumsum(shares), rng.random()).clip(0, states - 1))
    chunk = int(2 * duration / float(mean_dwell_seconds.mean())) + 8
    visited: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    dwell: list[Floats] = []
    passed = 0.0
    while passed < duration:
        jumps = rng.integers(1, states, chunk) if states > 2 else np.ones(chunk, np.int64)
        path = (state + np.concatenate(([0], np.cumsum(jumps[:-1])))) % states
        times = rng.standard_exponential(chunk) * mean_dwell_seconds[path]
        visited.append(path)
        dwell.append(times)
        passed += float(times.sum())
        state = int(path[-1] + jumps[-1]) % states
    edges = np.concatenate(([0.0], np.cumsum(np.concatenate(dwell))))
    kept = int(np.searchsorted(edges, duration))
    edges = edges[: kept + 1]
    edges[-1] = duration
    rate = rates[np.concatenate(visited)[:kept]]
    return RateProfile(edges, rate, np.ones(kept))


def random_walk(
    rng: np.random.Generator, low: float, high: float, *, step_seconds: float, deviation: float, duration: float
) -> RateProfile:
    """A random walk of the log rate, reflected between ``low`` and ``high`` (requests per second).

    Every ``step_seconds`` the logarithm moves by a normal step of standard deviation ``deviation`` and is folded back
    at the bounds. It starts in its stationary law (uniform in the logarithm), whose mean rate is
    ``(high - low) / ln(high / low)``. Arrivals inside a step are Poisson.
    """
    steps = max(1, math.ceil(duration / step_seconds))
    width = math.log(high / low)
    moves = rng.normal(0.0, deviation, steps)
    moves[0] = rng.random() * width
    folded = np.cumsum(moves) % (2 * width)
    log_rate = width - np.abs(folded - width)
    edges = np.minimum(np.arange(steps + 1) * step_seconds, duration)
    return RateProfile(edges, low * np.exp(log_rate), np.ones(steps))


def walk_mean(low: float, high: float) -> float:
    """Mean rate of ``random_walk`` in its stationary law."""
    return (high - low) / math.log(high / low)
