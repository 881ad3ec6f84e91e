"""From bursts to the latency formula's constants (see `bes_api.scenario.LatencyProfile`).

The time to the first token of a request that is alone says what a prefill costs. While all of a burst decode together
their tokens say what a step of that batch and that context costs. Both are linear in the constants: least squares on
relative errors, no constant below zero. Plain numpy, no clock, no network.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import LatencyProfile
from bes_lab.errors import ProfileError
from bes_lab.profile.plan import Burst
from bes_lab.profile.wire import Answer

MIN_STEPS = 4
_LEAST_MS = 0.001  # a base of nothing has no place in the formula: a microsecond is nothing measurable

_SAME = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredBurst:
    """A burst and its answers."""

    burst: Burst
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Step:
    """Decode steps of one batch: seconds of one, sequences in it, tokens of context that they hold together."""

    seconds: float
    batch: int
    context: float


def fit(bursts: Sequence[MeasuredBurst], round_trip: float) -> LatencyProfile:
    """The constants in milliseconds; ``round_trip``: seconds of each answer that are not the engine's.

    Raises ProfileError if the bursts cannot say them.
    """
    prefill_rows: dict[int, list[tuple[float, float]]] = defaultdict(list)
    step_rows: dict[Burst, list[Step]] = defaultdict(list)
    for measured in bursts:
        if measured.burst.concurrency == 1 and (first := first_token_seconds(measured.answers[0])) is not None:
            seconds = max(first - round_trip, _LEAST_MS / 1e3)
            prefill_rows[measured.burst.prompt_tokens].append((seconds, measured.answers[0].prompt_tokens))
        if (step := step_of(measured.answers)) is not None:
            step_rows[measured.burst].append(step)
    if len(prefill_rows) < 2 or len(step_rows) < 2:
        long = [answer for each in bursts if each.burst.output_tokens > MIN_STEPS for answer in each.answers]
        tokens, pieces = [answer.output_tokens for answer in long], [len(answer.events) for answer in long]
        raise ProfileError(
            f"too few answers can be used: they have {np.median(tokens):g} tokens in {np.median(pieces):g} pieces "
            f"(median), at least {MIN_STEPS + 1} tokens in pieces of their own are needed; an engine that stops early "
            "needs `ignore_eos`, one that streams in large pieces cannot be timed"
        )
    # A first token is only ever late (the network, a busy machine), by milliseconds that would all count as prefill:
    # the lower quartile. Over many steps lateness does not add up: the median.
    firsts = np.array([np.percentile(np.array(rows), 25.0, axis=0) for rows in prefill_rows.values()])
    steps = np.array(
        [
            np.median(np.array([(step.seconds, step.batch, step.context) for step in rows]), axis=0)
            for rows in step_rows.values()
        ]
    )
    ones = np.ones((len(firsts), 1)), np.ones((len(steps), 1))
    prefill = not_negative(np.hstack([ones[0], firsts[:, 1:]]), firsts[:, 0])
    decode = not_negative(np.hstack([ones[1], steps[:, 1:]]), steps[:, 0])
    return LatencyProfile(
        prefill_base_ms=max(_LEAST_MS, prefill[0] * 1e3),
        prefill_per_token_ms=prefill[1] * 1e3,
        decode_base_ms=max(_LEAST_MS, decode[0] * 1e3),
        decode_per_sequence_ms=decode[1] * 1e3,
        decode_per_context_token_ms=decode[2] * 1e3,
    )


def not_negative(terms: Floats, seconds: Floats) -> Floats:
    """Least squares of relative errors, no coefficient below 0, the first one always in.

    With three terms at most, every choice of those that are not 0 can be tried: the best that fits is exact.
    """
    weighted = terms / seconds[:, np.newaxis]
    wanted = np.ones(len(seconds))
    others = range(1, terms.shape[1])
    best, least = np.zeros(terms.shape[1]), np.inf
    for chosen in (choice for size in range(terms.shape[1]) for choice in combinations(others, size)):
        columns = [0, *chosen]
        found = np.linalg.lstsq(weighted[:, columns], wanted, rcond=None)[0]
        error = float(np.sum((weighted[:, columns] @ found - wanted) ** 2))
        if np.all(found >= 0.0) and error < least - _SAME:  # fewest terms first: an idle term stays out
            best, least = np.zeros(terms.shape[1]), error
            best[columns] = found
    return best


def first_token_seconds(answer: Answer) -> float | None:
    """Seconds to the first token; None where pieces hold several tokens, so that the first is not the first token."""
    if not answer.events or len(answer.events) < 0.9 * answer.output_tokens:
        return None
    return answer.events[0] - answer.sent


def step_of(answers: Sequence[Answer]) -> Step | None:
    """What one decode step took while all of ``answers`` were decoding; None if that was for too few steps."""
    if any(len(answer.events) < 2 for answer in answers):
        return None
    begin = max(answer.events[0] for answer in answers)
    end = min(answer.events[-1] for answer in answers)
    seconds = []
    context = 0.0
    for answer in answers:
        events = np.array(answer.events)
        # Some tokens have no piece of text of their own (half a letter, a special token): count by the engine's usage.
        token = np.linspace(1.0, answer.output_tokens, len(events))
        inside = np.flatnonzero((events >= begin) & (events <= end))
        if len(inside) < 2:
            return None
        first, last = inside[0], inside[-1]
        steps = token[last] - token[first]
        if steps < MIN_STEPS:
            return None
        seconds.append((events[last] - events[first]) / steps)
        context += answer.prompt_tokens + 0.5 * (token[first] + token[last] - 1.0)  # the k-th step reads prompt + k
    return Step(float(np.median(seconds)), len(answers), context)


def together(answers: Iterable[Answer]) -> int:
    """The most sequences that were decoding at one instant."""
    edges = sorted(
        edge for answer in answers if answer.events for edge in ((answer.events[0], 1), (answer.events[-1], -1))
    )
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def unrest_of(bursts: Sequence[MeasuredBurst]) -> float:
    """How far the latency of equal bursts is from their median; the median of it, relative."""
    latencies: dict[Burst, list[float]] = defaultdict(list)
    for measured in bursts:
        latencies[measured.burst].append(max(answer.seconds for answer in measured.answers))
    away = [np.abs(np.array(found) / np.median(found) - 1.0) for found in latencies.values() if len(found) > 2]
    return float(np.median(np.concatenate(away))) if away else 0.0
