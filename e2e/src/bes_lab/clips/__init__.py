"""Short pieces of recorded traffic: counts per window (`Clip`) or single instants (`Recording`), packaged by name.

``arrivals`` is a clip's one translation into requests. Demo, fidelity run and simulator replay the same arrivals: the
same clip, base rate, tasks and seed give the same bytes. Every packaged piece is of a part that no policy trained on.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import ScenarioTask
from bes_lab.errors import TraceError
from bes_training.workloads.arrivals import RateProfile
from bes_training.workloads.arrivals import arrivals as renewal_arrivals
from bes_training.workloads.traces import MAX_GAP_CV

DEMO_CLIP = "maf2019-a-31-60"
MINUTE = 60.0
PEAK_SECONDS = 10.0
"""Of the busiest stretch that `Listed` states for a recording of single instants."""


@dataclass(frozen=True)
class Clip:
    """Counts of one window each; ``seed`` is the committed seed of the arrivals inside the windows."""

    name: str
    source: str
    licence: str
    counts: tuple[int, ...]
    seed: int
    window_seconds: float = MINUTE
    gap_cv: tuple[float, ...] = ()
    """Coefficient of variation of the gaps in each window; empty: Poisson."""
    rate: float | None = None
    """Mean requests/s at which it is played where nobody asks for another; None: every recorded request is."""


@dataclass(frozen=True)
class Recording:
    """Single requests by the milliseconds since the one before."""

    name: str
    source: str
    licence: str
    gaps_milliseconds: tuple[int, ...]
    seed: int

    @property
    def instants(self) -> NDArray[np.float64]:
        """Seconds from the first request, sorted."""
        return np.cumsum(np.array(self.gaps_milliseconds, dtype=np.int64)) / 1000.0


@dataclass(frozen=True)
class Listed:
    """What a packaged piece of traffic is; rates in requests/s as recorded, the peak over its busiest window."""

    name: str
    source: str
    licence: str
    seconds: float
    requests: int
    mean_rate: float
    peak_rate: float
    peak_window_seconds: float


@dataclass(frozen=True)
class Mix:
    """Weights of the tasks from an instant on; a traffic's mix is a sequence of these, the first from second 0."""

    from_second: float
    weights: tuple[float, ...]


class Arrivals(NamedTuple):
    """N requests in the order in which they arrive, seconds from the start of the clip."""

    time: NDArray[np.float64]
    task: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


def read(name: str) -> Clip | Recording:
    """The piece of traffic of that name from this package, or from a JSON file at that path. Raises TraceError."""
    packaged = files("bes_lab.clips") / f"{name}.json"
    try:
        source = packaged if packaged.is_file() else Path(name)
        document = json.loads(source.read_text(encoding="utf-8"))
        piece = _piece(document)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise TraceError(
            name,
            f"is no clip ({error}); expected one of {', '.join(names())}, or JSON with name, source, licence, seed and "
            "counts or gaps_milliseconds",
        ) from None
    if not isinstance(piece.seed, int) or piece.seed < 0:
        raise TraceError(name, f"seed {piece.seed!r}: expected a whole number of at least 0")
    return checked(piece, name) if isinstance(piece, Clip) else _checked_gaps(piece, name)


def load(name: str) -> Clip:
    """As `read`, where only counts will do. Raises TraceError."""
    piece = read(name)
    if not isinstance(piece, Clip):
        raise TraceError(name, "holds single requests; expected a clip with counts per window")
    return piece


def names() -> list[str]:
    """The names of the packaged pieces, the demo's first."""
    found = sorted(entry.name[:-5] for entry in files("bes_lab.clips").iterdir() if entry.name.endswith(".json"))
    return [DEMO_CLIP, *(name for name in found if name != DEMO_CLIP)]


def listed() -> list[Listed]:
    """Every packaged piece with what there is to know before it is played."""
    return [_listed(read(name)) for name in names()]


def _listed(piece: Clip | Recording) -> Listed:
    if isinstance(piece, Clip):
        window, counts = piece.window_seconds, np.array(piece.counts)
        seconds = window * len(counts)
    else:
        window, instants = PEAK_SECONDS, piece.instants
        seconds = float(instants[-1])
        counts = np.bincount((instants // window).astype(np.int64))
    requests = int(counts.sum())
    peak = float(counts.max()) / window
    return Listed(piece.name, piece.source, piece.licence, seconds, requests, requests / seconds, peak, window)


def _piece(document: dict[str, Any]) -> Clip | Recording:
    if "gaps_milliseconds" in document:
        return Recording(
            **{**document, "gaps_milliseconds": tuple(int(each) for each in document["gaps_milliseconds"])}
        )
    clip = Clip(**{**document, "counts": tuple(int(count) for count in document["counts"])})
    rate = None if clip.rate is None else float(clip.rate)
    return replace(clip, window_seconds=float(clip.window_seconds), gap_cv=tuple(map(float, clip.gap_cv)), rate=rate)


def checked(clip: Clip, source: str) -> Clip:
    """The clip, if it can be played. Raises TraceError."""
    if not clip.counts or not 0 <= min(clip.counts) <= max(clip.counts) < 2**53 or sum(clip.counts) == 0:
        raise TraceError(source, "counts: expected non-negative counts that are not all 0")
    if not 0 < clip.window_seconds < math.inf:
        raise TraceError(source, f"window_seconds {clip.window_seconds:g}: expected seconds above 0")
    if clip.rate is not None and not 0 < clip.rate < math.inf:
        raise TraceError(source, f"rate {clip.rate:g}: expected requests/s above 0")
    if clip.gap_cv and (len(clip.gap_cv) != len(clip.counts) or not all(0 < cv <= MAX_GAP_CV for cv in clip.gap_cv)):
        raise TraceError(source, f"gap_cv: expected a number above 0 and up to {MAX_GAP_CV:g} for each of the counts")
    return clip


def _checked_gaps(piece: Recording, source: str) -> Recording:
    if (
        len(piece.gaps_milliseconds) < 2
        or not 0 <= min(piece.gaps_milliseconds) <= sum(piece.gaps_milliseconds) < 2**53
    ):
        raise TraceError(source, "gaps_milliseconds: expected two or more whole numbers of at least 0")
    if sum(piece.gaps_milliseconds[1:]) == 0:
        raise TraceError(source, "gaps_milliseconds: expected gaps that are not all 0")
    return piece


def arrivals(
    clip: Clip,
    base_rate: float,
    multiple: float,
    seconds_per_minute: float,
    seed: int,
    tasks: Sequence[ScenarioTask],
    mix: Sequence[Mix] = (),
) -> Arrivals:
    """The clip at a mean of ``multiple * base_rate`` requests per second, Poisson (or ``gap_cv``) inside each window.

    A window of the clip lasts ``seconds_per_minute``. Tasks are drawn by ``mix`` (absent: all alike), lengths are the
    tasks' typical ones.
    """
    generator = np.random.default_rng(seed)
    rates = np.asarray(clip.counts, dtype=np.float64)
    if clip.gap_cv:
        edges = np.arange(rates.size + 1.0) * seconds_per_minute
        profile = RateProfile(edges, rates, np.array(clip.gap_cv)).scaled_to(base_rate * multiple)
        return with_tasks(renewal_arrivals(generator, profile), tasks, mix, generator)
    expected = rates / rates.mean() * (base_rate * multiple * seconds_per_minute)
    counts = generator.poisson(expected)
    start = np.repeat(np.arange(len(counts)) * seconds_per_minute, counts)
    time = np.sort(start + generator.random(start.size) * seconds_per_minute)
    return with_tasks(time, tasks, mix, generator)


def with_tasks(
    time: NDArray[np.float64], tasks: Sequence[ScenarioTask], mix: Sequence[Mix], generator: np.random.Generator
) -> Arrivals:
    """Requests at these sorted instants, tasks drawn by ``mix``, lengths the tasks' typical ones."""
    steps = mix or (Mix(0.0, (1.0,) * len(tasks)),)
    cumulative = np.cumsum([step.weights for step in steps], axis=1)
    cumulative /= cumulative[:, -1:]
    row = np.searchsorted([step.from_second for step in steps], time, side="right") - 1
    drawn = generator.random(time.size)
    task = (drawn[:, None] >= cumulative[np.maximum(row, 0)]).sum(axis=1).astype(np.int64)
    prompt = np.array([task.prompt_tokens for task in tasks], dtype=np.int64)
    output = np.array([task.output_tokens for task in tasks], dtype=np.int64)
    return Arrivals(time, task, prompt[task], output[task])
