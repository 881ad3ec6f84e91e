"""Recorded traffic as rate profiles: which part of it may train, validate and test, and clips scaled to a rate.

Only this module knows the split; a clip that leaves its part is refused.
"""

from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from bes_api.scenario import Frozen, PositiveInt
from bes_training.workloads.arrivals import RateProfile
from bes_training.workloads.workload import Floats

MAX_GAP_CV = 8.0
"""Above it a clip is a handful of instants with nothing between: windows with one flooding client reach 800."""
OUTAGE_SHARE = 0.1
"""A ServeGen window below this share of its part's median rate is missing data or an outage."""


Source = Literal["MAF2019", "ServeGen"]


class Part(StrEnum):
    """What a piece of recorded traffic may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


MAF_FILES = {Part.TRAIN: "CDFHI", Part.VALIDATION: "B", Part.TEST: "AE"}
SERVEGEN_POOLS = ("m-small", "m-mid", "deepseek-r1")


class Series(NamedTuple):
    """Equal windows in time order: their rate (any unit: clips are scaled) and the CV of gaps inside."""

    rate: Floats
    cv: Floats
    usable: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def starts(self, length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Every start from which ``length`` usable windows follow."""
        run = np.cumsum(np.concatenate(([0], self.usable)))
        return np.flatnonzero(run[length:] - run[:-length] == length)


class Clip(Frozen):
    """Windows ``start .. start + length - 1`` of one series of one part, each played as ``window_units``.

    ``series`` is a MAF file (window: a minute) or a ServeGen pool (window: 600 s); windows count from the part's first.
    """

    source: Source
    series: str
    start: int = Field(ge=0)
    length: PositiveInt
    window_units: float = Field(gt=0)


def series_of(part: Part, source: Source, series: str) -> Series:
    """The windows of a series that belong to ``part``. Raises ValueError where it has none."""
    if source == "MAF2019":
        if series not in MAF_FILES[part]:
            raise ValueError(f"MAF file {series!r} is not {part} data; {part} has {', '.join(MAF_FILES[part])}")
        calls = _maf()[series]
        return Series(calls, np.ones(len(calls)), np.ones(len(calls), np.bool_))
    if series not in SERVEGEN_POOLS:
        raise ValueError(f"ServeGen has no pool {series!r}; it has {', '.join(SERVEGEN_POOLS)}")
    rate, cv = _servegen()[series]
    first, last = _share_of(part, len(rate), (9 / 14, 11 / 14))
    rate = rate[first:last]
    return Series(rate, cv[first:last].clip(max=MAX_GAP_CV), rate >= OUTAGE_SHARE * np.median(rate))


def clip_profile(part: Part, clip: Clip, mean_rate: float, unit_seconds: float) -> RateProfile:
    """The clip with mean rate ``mean_rate`` (requests/s). Raises ValueError when it leaves its part or is an outage."""
    whole = series_of(part, clip.source, clip.series)
    end = clip.start + clip.length
    if end > len(whole.rate) or not whole.usable[clip.start : end].all():
        raise ValueError(
            f"clip {clip.source} {clip.series} {clip.start}+{clip.length}: not all of it is usable {part} data; "
            "choose one of Series.starts(length)"
        )
    edges = np.arange(clip.length + 1.0) * (clip.window_units * unit_seconds)
    return RateProfile(edges, whole.rate[clip.start : end], whole.cv[clip.start : end]).scaled_to(mean_rate)


def azure_arrivals(part: Part) -> Floats:
    """The Azure 2023 conversation trace: arrival instants of ``part`` in seconds since its first request."""
    instants = _azure()
    first, last = _share_of(part, round(float(instants[-1])) + 1, (0.6, 0.8))
    inside = instants[(instants >= first) & (instants < last)]
    since: Floats = inside - inside[0]
    return since


def azure_segment(part: Part, first: int, requests: int, mean_rate: float) -> tuple[Floats, float]:
    """At most ``requests`` recorded arrivals from the ``first`` one on, so fast that their mean rate is ``mean_rate``.

    Returns instants from 0 and the duration; fewer where the part ends. Raises ValueError when it ends before.
    """
    taken = azure_arrivals(part)[first : first + requests + 1]
    if len(taken) < 2:
        raise ValueError(f"azure2023 {part} has no two requests from request {first} on; start earlier")
    duration = (len(taken) - 1) / mean_rate
    since = taken - taken[0]
    return since[:-1] * (duration / float(since[-1])), duration


def _share_of(part: Part, length: int, cuts: tuple[float, float]) -> tuple[int, int]:
    bounds = (0, int(length * cuts[0]), int(length * cuts[1]), length)
    place = list(Part).index(part)
    return bounds[place], bounds[place + 1]


@lru_cache(maxsize=1)
def _maf() -> dict[str, Floats]:
    header, rows = _table("maf2019.csv")
    values = np.array(rows, np.float64)
    return {name: values[:, column] for column, name in enumerate(header)}


@lru_cache(maxsize=1)
def _servegen() -> dict[str, tuple[Floats, Floats]]:
    _, rows = _table("servegen.csv")
    pools = {}
    for pool in SERVEGEN_POOLS:
        values = np.array([row[2:] for row in rows if row[0] == pool], np.float64)
        pools[pool] = (values[:, 0], values[:, 1])
    return pools


@lru_cache(maxsize=1)
def _azure() -> Floats:
    _, rows = _table("azure2023.csv")
    return np.cumsum(np.array([int(row[0]) for row in rows], np.int64)) / 1000


def _table(name: str) -> tuple[list[str], list[list[str]]]:
    lines = (files("bes_training.data") / name).read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split(",") for line in lines)
    return header, rows
