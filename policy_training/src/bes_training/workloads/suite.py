"""The committed suites: definitions of the test and validation workloads, and their deterministic realisation.

A definition names laws and multiples only; rates, tasks and the unit of time come from the setting (``Setting``), so
the same suite fits any scenario. Nothing here may change once a policy was trained: see ``data/suites``.
"""

import zlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bes_api.scenario import Frozen, PositiveFloat, PositiveInt
from bes_training.workloads.arrivals import arrivals, constant
from bes_training.workloads.rates import random_walk
from bes_training.workloads.requests import Mix, assemble
from bes_training.workloads.traces import Clip, Part, azure_segment, clip_profile
from bes_training.workloads.workload import Floats, Setting, Workload

UNITS = 60.0
"""Length of a workload in units of time (seconds, unless the base rate is below 33/s)."""
MAX_REQUESTS = 20_000
"""A workload is shorter where it would hold more: the suite evaluates in seconds."""
WALK_STEP_UNITS = 0.5
WALK_DEVIATION = 0.4
SHIFT_DWELL_UNITS = 10.0


class Stationary(Frozen):
    """One rate; gaps are exponential (``cv`` 1: Poisson) or Gamma."""

    type: Literal["Stationary"] = "Stationary"
    cv: PositiveFloat = 1.0


class RandomWalk(Frozen):
    """A reflected random walk of the log rate between ``low`` and ``high`` times the base."""

    type: Literal["RandomWalk"] = "RandomWalk"
    low: PositiveFloat
    high: PositiveFloat


class TraceClip(Frozen):
    """Recorded counts or rates; arrivals inside a window are drawn."""

    type: Literal["TraceClip"] = "TraceClip"
    clip: Clip


class RecordedArrivals(Frozen):
    """Recorded instants of the Azure 2023 conversation trace, from request ``first`` on; only the tasks are drawn."""

    type: Literal["RecordedArrivals"] = "RecordedArrivals"
    first: Annotated[int, Field(ge=0)]


Law = Annotated[Stationary | RandomWalk | TraceClip | RecordedArrivals, Field(discriminator="type")]


class Definition(Frozen):
    """One workload. ``multiple`` is its mean rate in multiples of base; None for walks, which state their bounds."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")]
    family: Literal["poisson", "gamma", "walk", "maf", "servegen", "azure"]
    law: Law
    multiple: PositiveFloat | None = None
    dominant: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """Share of the task that dominates until the next abrupt shift; None = every task equally often."""
    routers: PositiveInt = 1

    @model_validator(mode="after")
    def _rate_stated_once(self) -> Self:
        if (self.multiple is None) != isinstance(self.law, RandomWalk):
            raise ValueError(f"workload {self.id!r}: state `multiple` for every law but RandomWalk, and not for that")
        return self


class Suite(Frozen):
    """A committed list of definitions, each realised once per seed."""

    version: Literal[1] = 1
    part: Part
    seeds: tuple[int, ...] = Field(min_length=1)
    workloads: tuple[Definition, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        ids = [definition.id for definition in self.workloads]
        if len(set(ids)) != len(ids):
            raise ValueError("two workloads of a suite have the same id")
        return self

    def multiples(self) -> dict[str, float]:
        """Load multiple per workload name, where it has one."""
        return {item.id: item.multiple for item in self.workloads if item.multiple is not None}

    def realise(self, setting: Setting, *, max_requests: int = MAX_REQUESTS) -> Iterator[Workload]:
        """Every workload with every seed, the seeds of a workload together."""
        for definition in self.workloads:
            for seed in self.seeds:
                yield realise(definition, self.part, seed, setting, max_requests=max_requests)


@lru_cache(maxsize=2)
def load_suite(part: Part) -> Suite:
    """The committed suite for ``Part.TEST`` or ``Part.VALIDATION``. Raises ValueError for the training part."""
    if part is Part.TRAIN:
        raise ValueError("training has no suite; draw from bes_training.workloads.training")
    text = (files("bes_training.data") / "suites" / f"{part}.json").read_text(encoding="utf-8")
    return Suite.model_validate_json(text)


def realise(
    definition: Definition, part: Part, seed: int, setting: Setting, *, max_requests: int = MAX_REQUESTS
) -> Workload:
    """The workload ``<definition's id>/<seed>``: the same arguments give the same arrays."""
    rng = np.random.default_rng([zlib.crc32(definition.id.encode()), seed])
    time, duration = _instants(rng, definition, part, setting, max_requests)
    if definition.dominant is None:
        mix = Mix.uniform(setting.tasks)
    else:
        dwell = SHIFT_DWELL_UNITS * setting.unit_seconds
        mix = Mix.shifting(
            rng, setting.tasks, dominant=definition.dominant, mean_dwell_seconds=dwell, duration=duration
        )
    identity = f"{definition.id}/{seed}"
    return assemble(rng, identity, time, duration, setting, mix, routers=Mix.uniform(definition.routers)).head(
        max_requests
    )


def _instants(
    rng: np.random.Generator, definition: Definition, part: Part, setting: Setting, max_requests: int
) -> tuple[Floats, float]:
    match definition.law:
        case RandomWalk(low=low, high=high):
            profile = random_walk(
                rng,
                low * setting.base_rate,
                high * setting.base_rate,
                step_seconds=WALK_STEP_UNITS * setting.unit_seconds,
                deviation=WALK_DEVIATION,
                duration=UNITS * setting.unit_seconds,
            )
        case Stationary(cv=cv):
            rate = _rate(definition, setting)
            profile = constant(rate, _duration(rate, setting, max_requests), cv)
        case TraceClip(clip=clip):
            rate = _rate(definition, setting)
            # The part that is played has the stated mean, also where it is not the whole clip.
            fitting = max(1, int(max_requests / (rate * clip.window_units * setting.unit_seconds)))
            played = clip.model_copy(update={"length": min(clip.length, fitting)})
            profile = clip_profile(part, played, rate, setting.unit_seconds)
        case RecordedArrivals(first=first):
            rate = _rate(definition, setting)
            return azure_segment(part, first, int(rate * _duration(rate, setting, max_requests)), rate)
    return arrivals(rng, profile), profile.duration


def _rate(definition: Definition, setting: Setting) -> float:
    if definition.multiple is None:  # refused by Definition; said again for the type checker
        raise ValueError(f"workload {definition.id!r} has no multiple")
    return definition.multiple * setting.base_rate


def _duration(rate: float, setting: Setting, max_requests: int) -> float:
    return min(UNITS * setting.unit_seconds, max_requests / rate)
