"""The training distribution: random laws, loads, task mixes, lengths and routers, from training data only."""

import math
from collections.abc import Callable

import numpy as np

from bes_training.workloads.arrivals import RateProfile, arrivals, constant
from bes_training.workloads.rates import markov_modulated, random_walk, walk_mean
from bes_training.workloads.requests import Mix, assemble
from bes_training.workloads.traces import (
    MAF_FILES,
    SERVEGEN_POOLS,
    Clip,
    Part,
    Source,
    azure_arrivals,
    azure_segment,
    clip_profile,
    series_of,
)
from bes_training.workloads.workload import Floats, Setting, Workload

MAX_REQUESTS = 4_000
LOW_LOAD = (0.5, 4.0)
HIGH_LOAD = (4.0, 25.0)
SHORTEST_LOAD = 8.0
"""Beyond this multiple of base a trace gets denser, not shorter: overload takes seconds to become steady."""
MAX_BURST = 25.0
"""Bursts stop at this multiple of base: beyond it every policy sheds alike and nothing is learned."""
MAX_UNITS = 60.0
MAX_ROUTERS = 4
OWN_BURST_UNITS = 0.5
"""Length of the windows in which one router alone receives what exceeds the usual rate."""


def training_workload(
    rng: np.random.Generator,
    setting: Setting,
    *,
    max_requests: int = MAX_REQUESTS,
    min_routers: int = 1,
    max_routers: int = MAX_ROUTERS,
) -> Workload:
    """One random workload of about ``max_requests`` requests (fewer at low load: at most 60 units of time).

    Above 8x base it lasts as long as at 8x, with more requests. Half of them have a mean of 0.5-4x base, half of 4-25x
    (log-uniform; walks have these as bounds, the second half 0.5-25x). Laws: walks 30 %, Markov-modulated bursts 20 %,
    Poisson 15 %, Gamma with CV 1.5-6 15 %, recorded traffic 20 %. Task mixes: uniform, random shares, shifts of 90/10
    and 95/5, equally often. Half have constant lengths, half a CV up to 0.5. Routers: ``min_routers`` to
    ``max_routers`` with random shares, in a quarter of the traces changing ones, in a quarter one of them has the
    bursts to itself.
    """
    low = bool(rng.random() < 0.5)
    law = _LAWS[int(np.searchsorted(_LAW_BOUNDS, rng.random(), side="right"))]
    time, duration = law(rng, setting, low, max_requests)
    mix = _mix(rng, setting, duration)
    length_cv = rng.uniform(0.0, 0.5) if rng.random() < 0.5 else 0.0
    routers = _routers(rng, setting, time, duration, int(rng.integers(min_routers, max_routers + 1)))
    name = f"train.{law.__name__.strip('_')}/{'low' if low else 'high'}"
    workload = assemble(rng, name, time, duration, setting, mix, routers=routers, length_cv=length_cv)
    return workload.head(round(max_requests * HIGH_LOAD[1] / SHORTEST_LOAD))


def _walk(rng: np.random.Generator, setting: Setting, low: bool, max_requests: int) -> tuple[Floats, float]:
    bottom, top = (LOW_LOAD[0] * setting.base_rate, (LOW_LOAD if low else HIGH_LOAD)[1] * setting.base_rate)
    profile = random_walk(
        rng,
        bottom,
        top,
        step_seconds=setting.unit_seconds * rng.uniform(0.25, 1.0),
        deviation=rng.uniform(0.2, 0.6),
        duration=_duration(walk_mean(bottom, top), setting, max_requests),
    )
    return arrivals(rng, profile), profile.duration


def _bursts(rng: np.random.Generator, setting: Setting, low: bool, max_requests: int) -> tuple[Floats, float]:
    rate = _rate(rng, setting, low)
    duration = _duration(rate, setting, max_requests)
    height = rng.uniform(2.0, 10.0)
    dwell = setting.unit_seconds * np.array([_log_uniform(rng, 1.0, 10.0), _log_uniform(rng, 0.3, 3.0)])
    profile = markov_modulated(rng, np.array([1.0, height]), dwell, duration).scaled_to(rate)
    capped = profile._replace(rate=np.minimum(profile.rate, MAX_BURST * setting.base_rate))
    return arrivals(rng, capped), duration


def _poisson(rng: np.random.Generator, setting: Setting, low: bool, max_requests: int) -> tuple[Floats, float]:
    rate = _rate(rng, setting, low)
    duration = _duration(rate, setting, max_requests)
    return arrivals(rng, constant(rate, duration)), duration


def _gamma(rng: np.random.Generator, setting: Setting, low: bool, max_requests: int) -> tuple[Floats, float]:
    rate = _rate(rng, setting, low)
    duration = _duration(rate, setting, max_requests)
    return arrivals(rng, constant(rate, duration, rng.uniform(1.5, 6.0))), duration


def _recorded(rng: np.random.Generator, setting: Setting, low: bool, max_requests: int) -> tuple[Floats, float]:
    rate = _rate(rng, setting, low)
    duration = _duration(rate, setting, max_requests)
    source = rng.integers(3)
    if source == 0:
        requests = int(rate * duration)
        last = max(1, len(azure_arrivals(Part.TRAIN)) - requests - 1)
        return azure_segment(Part.TRAIN, int(rng.integers(last)), requests, rate)
    profile = _clip(rng, "MAF2019" if source == 1 else "ServeGen", rate, duration, setting)
    return arrivals(rng, profile), profile.duration


def _clip(rng: np.random.Generator, source: Source, rate: float, duration: float, setting: Setting) -> RateProfile:
    units = duration / setting.unit_seconds
    if source == "MAF2019":
        name, window = str(rng.choice(list(MAF_FILES[Part.TRAIN]))), rng.uniform(0.3, 2.0)
    else:
        name, window = str(rng.choice(SERVEGEN_POOLS)), rng.uniform(1.0, 10.0)
    length = max(1, round(units / window))
    starts = series_of(Part.TRAIN, source, name).starts(length)
    start = int(starts[rng.integers(len(starts))])
    clip = Clip(source=source, series=name, start=start, length=length, window_units=units / length)
    return clip_profile(Part.TRAIN, clip, rate, setting.unit_seconds)


_Law = Callable[[np.random.Generator, Setting, bool, int], tuple[Floats, float]]
_LAWS: tuple[_Law, ...] = (_walk, _bursts, _poisson, _gamma, _recorded)
_LAW_BOUNDS = np.cumsum([0.30, 0.20, 0.15, 0.15])


def _mix(rng: np.random.Generator, setting: Setting, duration: float) -> Mix:
    kind = rng.integers(4)
    if kind == 0:
        return Mix.uniform(setting.tasks)
    if kind == 1:
        return Mix.given(rng.dirichlet(np.ones(setting.tasks)))
    dwell = setting.unit_seconds * _log_uniform(rng, 2.0, 20.0)
    return Mix.shifting(
        rng, setting.tasks, dominant=0.9 if kind == 2 else 0.95, mean_dwell_seconds=dwell, duration=duration
    )


def _routers(rng: np.random.Generator, setting: Setting, time: Floats, duration: float, count: int) -> Mix:
    """Half of the time constant shares, else shares that change or a router whose traffic bursts alone."""
    shares = rng.dirichlet(np.full(count, 4.0))
    kind = rng.integers(4)
    if count == 1 or kind < 2:
        return Mix.given(shares)
    if kind == 2:
        dwell = setting.unit_seconds * _log_uniform(rng, 5.0, 30.0)
        return Mix.drifting(rng, count, mean_dwell_seconds=dwell, duration=duration)
    window = setting.unit_seconds * OWN_BURST_UNITS
    return Mix.with_own_bursts(time, shares, int(rng.integers(count)), window_seconds=window)


def _rate(rng: np.random.Generator, setting: Setting, low: bool) -> float:
    return setting.base_rate * _log_uniform(rng, *(LOW_LOAD if low else HIGH_LOAD))


def _duration(rate: float, setting: Setting, max_requests: int) -> float:
    return min(MAX_UNITS * setting.unit_seconds, max_requests / min(rate, SHORTEST_LOAD * setting.base_rate))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low * math.exp(rng.random() * math.log(high / low))
