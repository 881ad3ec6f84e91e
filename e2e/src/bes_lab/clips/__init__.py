"""A clip is a short piece of a real trace as counts per minute; ``arrivals`` is its one translation into requests.

Demo, fidelity run and simulator replay the same arrivals: the same clip, base rate, tasks and seed give the same bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import ScenarioTask
from bes_lab.errors import TraceError

DEMO_CLIP = "maf2019-a-31-60"


@dataclass(frozen=True)
class Clip:
    """Counts of one window each; ``seed`` is the committed seed of the arrivals inside the windows."""

    name: str
    source: str
    licence: str
    counts: tuple[int, ...]
    seed: int


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


def load(name: str) -> Clip:
    """The clip of that name from this package, or from a JSON file at that path."""
    packaged = files("bes_lab.clips") / f"{name}.json"
    try:
        source = packaged if packaged.is_file() else Path(name)
        document = json.loads(source.read_text(encoding="utf-8"))
        clip = Clip(**{**document, "counts": tuple(int(count) for count in document["counts"])})
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise TraceError(
            name, f"is no clip ({error}); expected JSON with name, source, licence, counts, seed"
        ) from None
    if not isinstance(clip.seed, int) or clip.seed < 0:
        raise TraceError(name, f"seed {clip.seed!r}: expected a whole number of at least 0")
    return checked(clip, name)


def checked(clip: Clip, source: str) -> Clip:
    """The clip, if its counts can be played. Raises TraceError."""
    if not clip.counts or not 0 <= min(clip.counts) <= max(clip.counts) < 2**53 or sum(clip.counts) == 0:
        raise TraceError(source, "counts: expected non-negative counts that are not all 0")
    return clip


def arrivals(
    clip: Clip,
    base_rate: float,
    multiple: float,
    seconds_per_minute: float,
    seed: int,
    tasks: Sequence[ScenarioTask],
    mix: Sequence[Mix] = (),
) -> Arrivals:
    """The clip at a mean of ``multiple * base_rate`` requests per second, Poisson inside each window.

    A window of the clip lasts ``seconds_per_minute``. Tasks are drawn by ``mix`` (absent: all alike), lengths are the
    tasks' typical ones.
    """
    generator = np.random.default_rng(seed)
    rates = np.asarray(clip.counts, dtype=np.float64)
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
