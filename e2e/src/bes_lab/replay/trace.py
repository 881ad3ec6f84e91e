"""Reads a trace and plays it: scaled in time and rate, tasks drawn by a mix, everything from one seed.

A trace is a packaged clip or recording by name, a JSON file of that form, a CSV of requests (`time_seconds`, or Azure's
`TIMESTAMP`; `task` if it has one) or a CSV of functions with one column per minute (MAF). Lengths are the tasks' own:
real prompts exceed OPT's context.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import ScenarioTask
from bes_lab import clips
from bes_lab.clips import Arrivals, Clip, Mix
from bes_lab.errors import TraceError

MAX_SECONDS = 1e12
MAX_REQUESTS = 20_000_000
"""Of one replay; more is a slip in a rate or a trace, and would fill the memory before the first request leaves."""


@dataclass(frozen=True)
class Requests:
    """A trace of single requests: sorted seconds from the first one, and a task's name each where the trace has it."""

    time: NDArray[np.float64]
    task: tuple[str, ...] | None
    seed: int = 0
    """Of the drawn tasks, and of copies and gaps where the rate is scaled."""


@dataclass(frozen=True)
class Playing:
    """How to play a trace. ``rate`` None: as recorded (times ``speed``), or what a clip states as its own."""

    speed: float
    rate: float | None
    seed: int
    mix: tuple[Mix, ...] = ()
    duration_seconds: float | None = None


def usual_speed(trace: Clip | Requests) -> float:
    """A clip's window plays as one second, single requests as they were recorded."""
    return trace.window_seconds if isinstance(trace, Clip) else 1.0


def read(source: str) -> Clip | Requests:
    """The trace in that file, or the packaged one of that name. Raises TraceError."""
    path = Path(source)
    if path.suffix.lower() != ".csv":
        piece = clips.read(source)
        return piece if isinstance(piece, Clip) else Requests(piece.instants - piece.instants[0], None, piece.seed)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(source, f"cannot be read ({error})") from None
    except ValueError:
        raise TraceError(source, "is empty") from None
    minutes = [index for index, name in enumerate(header) if "minute" in name]
    try:
        if minutes:
            counts = tuple(sum(int(line[index]) for line in lines) for index in minutes)
            return clips.checked(Clip(path.stem, source, "", counts, 0), source)
        return _requests(header, lines, source)
    except (ValueError, IndexError, TypeError) as error:  # the last: instants with and without a time zone
        raise TraceError(source, f"a line does not fit the header ({error})") from None


def _requests(header: Sequence[str], lines: Sequence[Sequence[str]], source: str) -> Requests:
    columns = {name.strip().lower(): index for index, name in enumerate(header)}
    if "time_seconds" in columns:
        instants = [float(line[columns["time_seconds"]]) for line in lines]
    elif "timestamp" in columns:
        stamps = [datetime.fromisoformat(line[columns["timestamp"]].strip()[:26]) for line in lines]
        instants = [(stamp - stamps[0]).total_seconds() for stamp in stamps]
    else:
        raise TraceError(source, "has no column time_seconds, TIMESTAMP or minute_N; name one of them")
    if not instants:
        raise TraceError(source, "has no requests")
    if not max(map(abs, instants)) < MAX_SECONDS or np.isnan(instants).any():
        raise TraceError(source, f"names an instant that is no number of seconds up to {MAX_SECONDS:g}")
    order = np.argsort(instants, kind="stable")
    time = np.asarray(instants, dtype=np.float64)[order]
    tasks = tuple(lines[index][columns["task"]].strip() for index in order) if "task" in columns else None
    return Requests(time - time[0], tasks)


def arrivals_of(trace: Clip | Requests, playing: Playing, tasks: Sequence[ScenarioTask]) -> Arrivals:
    """The requests of ``trace`` as ``playing`` says."""
    if isinstance(trace, Clip):
        window = trace.window_seconds / playing.speed
        rate = playing.rate or trace.rate or sum(trace.counts) / len(trace.counts) / window
        _refuse_too_many(rate * window * len(trace.counts))
        played = clips.arrivals(trace, rate, 1.0, window, playing.seed, tasks, playing.mix)
    else:
        played = _play(trace, playing, tasks)
    if playing.duration_seconds is not None:
        kept = int(np.searchsorted(played.time, playing.duration_seconds))
        played = Arrivals(
            played.time[:kept], played.task[:kept], played.prompt_tokens[:kept], played.output_tokens[:kept]
        )
    return played


def _play(trace: Requests, playing: Playing, tasks: Sequence[ScenarioTask]) -> Arrivals:
    """Rates are scaled by overlaying copies that start elsewhere in the trace and thinning the last one.

    That keeps the law of the gaps near the recorded one; squeezing the time would shorten bursts as well.
    """
    generator = np.random.default_rng(playing.seed)
    length = max(float(trace.time[-1]), 1e-9) / playing.speed
    base = trace.time / playing.speed
    factor = 1.0 if playing.rate is None else playing.rate * length / base.size
    _refuse_too_many(factor * base.size)
    pieces, origins = [], []
    for copy in range(int(np.ceil(factor))):
        share = min(1.0, factor - copy)
        keep = np.flatnonzero(generator.random(base.size) < share)
        shift = 0.0 if copy == 0 else generator.random() * length
        pieces.append((base[keep] + shift) % (length + 1e-9) if copy else base[keep])
        origins.append(keep)
    time = np.concatenate(pieces)
    order = np.argsort(time, kind="stable")
    played = clips.with_tasks(time[order], tasks, playing.mix, generator)
    if trace.task is None:
        return played
    index = {task.name: number for number, task in enumerate(tasks)}
    unknown = set(trace.task) - set(index)
    if unknown:
        raise TraceError("trace", f"names tasks that the service does not have: {', '.join(sorted(unknown))}")
    numbers = np.array([index[name] for name in trace.task], dtype=np.int64)[np.concatenate(origins)[order]]
    prompt = np.array([task.prompt_tokens for task in tasks], dtype=np.int64)
    output = np.array([task.output_tokens for task in tasks], dtype=np.int64)
    return Arrivals(played.time, numbers, prompt[numbers], output[numbers])


def _refuse_too_many(requests: float) -> None:
    if not requests <= MAX_REQUESTS:
        raise TraceError("trace", f"{requests:.3g} requests at that rate and speed; at most {MAX_REQUESTS} are played")


def mix_of(texts: Sequence[str], tasks: Sequence[ScenarioTask]) -> tuple[Mix, ...]:
    """Read `[SECOND:]TASK=WEIGHT,...`, one text per shift; tasks that a text leaves out get none."""
    steps = [_mix_step(text, [task.name for task in tasks]) for text in texts]
    steps.sort(key=lambda step: step.from_second)
    if steps and steps[0].from_second > 0:
        steps.insert(0, Mix(0.0, (1.0,) * len(tasks)))
    return tuple(steps)


def _mix_step(text: str, names: Sequence[str]) -> Mix:
    start, separator, shares = text.rpartition(":")
    weights: Mapping[str, float]
    try:
        second = float(start) if separator else 0.0
        weights = {name.strip(): float(weight) for name, weight in (part.split("=") for part in shares.split(","))}
    except ValueError:
        raise TraceError(f"--mix {text}", "expected [SECOND:]TASK=WEIGHT,..., such as 12:lambada=3,piqa=1") from None
    if unknown := set(weights) - set(names):
        raise TraceError(f"--mix {text}", f"no task {sorted(unknown)[0]!r}; the service has {', '.join(names)}")
    total = sum(weights.values())
    if not (0 <= second < np.inf and min(weights.values()) >= 0 and 0 < total < np.inf):
        raise TraceError(f"--mix {text}", "expected a second of at least 0 and weights of which one is above 0")
    return Mix(second, tuple(weights.get(name, 0.0) for name in names))
