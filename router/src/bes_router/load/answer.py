"""What a Prometheus answered, read with suspicion: what makes no sense for one engine leaves that engine unknown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bes_router.errors import FiguresError
from bes_router.load.board import Target
from bes_router.load.question import PART, STAMP, VALUE, Question

MAX_SERIES_PER_BACKEND = 256
SLACK_SECONDS = 0.001
"""A sample cannot be of later than the answer, which writes its instant in milliseconds."""

_Key = tuple[str, frozenset[tuple[str, str]]]
"""One series: its metric's number, its labels."""


@dataclass(frozen=True)
class Figure:
    """One engine at the instant ``stamp`` of Prometheus' clock; ``finished`` None: no such counter of that instant."""

    stamp: float
    in_flight: float
    finished: float | None


@dataclass(frozen=True)
class Answer:
    """``evaluated_at`` is Prometheus' clock when it answered, None where it had nothing; figures by engine."""

    evaluated_at: float | None
    figures: Mapping[int, Figure]


@dataclass(frozen=True)
class _Sum:
    """One series, or all of one backend and metric that are of its newest instant, added up."""

    stamp: float
    value: float


def read_answer(result: object, question: Question) -> Answer:
    """Read the ``result`` of an instant query. Raises FiguresError where it is none."""
    if not isinstance(result, list):
        raise FiguresError(f"Prometheus answered a {type(result).__name__} where a list of series was expected")
    if len(result) > MAX_SERIES_PER_BACKEND * max(1, len(question.targets)):
        raise FiguresError(
            f"Prometheus answered {len(result)} series for {len(question.targets)} backends: narrow the matchers"
        )
    parts: dict[str, dict[_Key, float]] = {VALUE: {}, STAMP: {}}
    evaluated: set[float] = set()
    for kind, key, instant, value in map(_series, result):
        evaluated.add(instant)
        if kind in parts:
            parts[kind][key] = value
    if len(evaluated) > 1:
        raise FiguresError("Prometheus answered for several instants where one was asked for")
    at = evaluated.pop() if evaluated else None
    if at is None:
        return Answer(None, {})
    sums = _newest(parts[VALUE], parts[STAMP], question.join_label, at)
    return Answer(at, dict(_figures(sums, question)))


def _series(item: object) -> tuple[str, _Key, float, float]:
    """Kind, identity, instant and value of one series. Raises FiguresError."""
    match item:
        case {"metric": dict(labels), "value": [int() | float() as instant, str(text)]}:
            if isinstance(instant, bool) or not math.isfinite(instant):
                raise FiguresError(f"Prometheus answered a series at the instant {instant!r}")
            if not all(isinstance(value, str) for value in labels.values()):
                raise FiguresError("Prometheus answered labels that are no strings")
            kind, _, number = labels.get(PART, "").partition(":")
            identity = frozenset(pair for pair in labels.items() if pair[0] not in {PART, "__name__"})
            return kind, (number, identity), float(instant), _number(text)
    raise FiguresError("Prometheus answered something that is no series with its value")


def _number(text: str) -> float:
    try:
        return float(text) if len(text) <= 64 else math.nan
    except ValueError:
        return math.nan


def _newest(
    values: Mapping[_Key, float], stamps: Mapping[_Key, float], join_label: str, at: float
) -> dict[tuple[str, str], _Sum | None]:
    """By metric and join value: the newest series' sum; None where that makes no sense.

    Series of one instant belong to one scrape (engines number their workers and reasons) and add up; older ones are of
    a backend that was there before, or were scraped by somebody else.
    """
    found: dict[tuple[str, str], list[_Sum]] = {}
    for key in values.keys() | stamps.keys():
        number, labels = key
        place = (number, next((value for name, value in labels if name == join_label), ""))
        found.setdefault(place, []).append(_Sum(stamps.get(key, math.nan), values.get(key, math.nan)))
    return {place: _sum_of_newest(series, at) for place, series in found.items()}


def _sum_of_newest(series: Sequence[_Sum], at: float) -> _Sum | None:
    if not all(0.0 <= each.stamp <= at + SLACK_SECONDS for each in series):
        return None  # which one is the newest cannot be told
    stamp = max(each.stamp for each in series)
    values = [each.value for each in series if each.stamp == stamp]
    return _Sum(stamp, sum(values)) if all(math.isfinite(value) and value >= 0.0 for value in values) else None


def _figures(sums: Mapping[tuple[str, str], _Sum | None], question: Question) -> Iterator[tuple[int, Figure]]:
    numbers = {name: str(i) for i, name in enumerate(question.names)}
    for target in question.targets:
        gauges = [sums.get((numbers[name], target.join)) for name in target.gauges]
        known = [gauge for gauge in gauges if gauge is not None]
        if len(known) != len(gauges):
            continue
        stamp = min(gauge.stamp for gauge in known)
        yield target.engine, Figure(stamp, sum(gauge.value for gauge in known), _finished(sums, numbers, target, stamp))


def _finished(
    sums: Mapping[tuple[str, str], _Sum | None], numbers: Mapping[str, str], target: Target, stamp: float
) -> float | None:
    counter = None if target.finished is None else sums.get((numbers[target.finished], target.join))
    return counter.value if counter is not None and counter.stamp == stamp else None
