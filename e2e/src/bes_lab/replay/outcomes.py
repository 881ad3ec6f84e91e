"""Judges a replay: reward and peak of every request, quality delivered in time, and whether the run may count.

Latency counts from the scheduled instant (nothing that was late on our side is forgiven); figures from the actual send
stand beside it. Answers 429, 503 and 504 and missing ones have no reward and their full peak; a client's own fault
(other 4xx) counts nowhere.
"""

import os
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import Measure, Scenario
from bes_lab.clips import Arrivals
from bes_lab.replay.measured import UNANSWERED, Measured
from bes_router.policy.reward import reward_share

LATE_SECONDS = 0.005
"""A run whose sends were later than this at p99 says nothing about the server."""
_REFUSED = frozenset({UNANSWERED, 429, 500, 502, 503, 504})

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """N requests, judged. ``counted`` leaves out the client's own faults; latencies are NaN without an answer."""

    time: Floats
    latency: Floats
    latency_from_send: Floats
    reward: Floats
    reward_from_send: Floats
    peak: Floats
    in_time: Flags
    answered: Flags
    counted: Flags
    task: NDArray[np.int64]
    model: NDArray[np.int64]
    """Index into the scenario's models; -1 where none answered."""


@dataclass(frozen=True)
class Percentiles:
    """Seconds."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class TaskSummary:
    """One task's part."""

    requests: int
    performance: float
    in_time: float


@dataclass(frozen=True)
class Summary:
    """A replay in figures. ``performance`` is reward as a share of peak reward."""

    requests: int
    performance: float
    performance_from_send: float
    in_time: float
    valid: bool
    invalid_because: tuple[str, ...]
    latency: Percentiles
    latency_from_send: Percentiles
    first_byte_from_send: Percentiles
    lateness: Percentiles
    statuses: dict[str, int]
    models: dict[str, int]
    tasks: dict[str, TaskSummary]
    generator_microseconds_per_request: float
    machine_load_mean: float
    machine_load_max: float
    cores: int

    def as_json(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def judge(scenario: Scenario, arrivals: Arrivals, measured: Measured) -> Outcomes:
    """Reward, peak and in-time of every request of a replay."""
    models = {model.name: index for index, model in enumerate(scenario.models)}
    due, sent, done = (np.asarray(column) for column in (measured.due, measured.sent, measured.done))
    first = np.asarray(measured.first_byte)
    status = np.asarray(measured.status, dtype=np.int64)
    model = np.array([models.get(name, -1) for name in measured.model], dtype=np.int64)
    answered = status == 200
    model[~answered] = -1
    by_first = np.array([task.measure is Measure.FIRST_TOKEN for task in scenario.tasks])[arrivals.task]
    decisive = np.where(by_first, first, done)
    reward, in_time = _rewards(scenario, arrivals, decisive - due, model)
    from_send, _ = _rewards(scenario, arrivals, decisive - sent, model)
    best = np.array([max(task.quality.values(), default=0.0) for task in scenario.tasks])
    counted = answered | np.isin(status, list(_REFUSED))
    latency = np.where(answered, done - due, np.nan)
    latency_from_send = np.where(answered, done - sent, np.nan)
    return Outcomes(
        due, latency, latency_from_send, reward, from_send, best[arrivals.task], in_time, answered, counted,
        arrivals.task, model,
    )  # fmt: skip


def _rewards(scenario: Scenario, arrivals: Arrivals, elapsed: Floats, model: NDArray[np.int64]) -> tuple[Floats, Flags]:
    names = [each.name for each in scenario.models]
    reward = np.zeros(elapsed.size)
    in_time = np.zeros(elapsed.size, dtype=np.bool_)
    for index, (seconds, number, task_index) in enumerate(
        zip(elapsed.tolist(), model.tolist(), arrivals.task.tolist(), strict=True)
    ):
        if number < 0 or seconds != seconds:  # noqa: PLR0124 - NaN: there was no answer
            continue
        task = scenario.tasks[task_index]
        share = reward_share(seconds, task.full_until_seconds, task.zero_from_seconds)
        reward[index] = share * task.quality.get(names[number], 0.0)
        in_time[index] = share > 0.0
    return reward, in_time


def summarize(scenario: Scenario, outcomes: Outcomes, measured: Measured) -> Summary:
    """The figures of a replay, and whether they may be used."""
    counted = outcomes.counted
    lateness = np.asarray(measured.sent) - np.asarray(measured.due)
    tasks = {}
    for number, task in enumerate(scenario.tasks):
        of_task = counted & (outcomes.task == number)
        tasks[task.name] = TaskSummary(
            int(of_task.sum()),
            _share(outcomes.reward[of_task].sum(), outcomes.peak[of_task].sum()),
            _share(outcomes.in_time[of_task].sum(), of_task.sum()),
        )
    models = Counter(measured.model[index] for index in np.flatnonzero(outcomes.answered))
    statuses = Counter("unanswered" if status == UNANSWERED else str(status) for status in measured.status)
    late = percentiles(lateness)
    reasons = []
    if not late.p99 <= LATE_SECONDS:
        reasons.append(f"sends were late by {late.p99 * 1e3:.1f} ms at p99 (at most {LATE_SECONDS * 1e3:.0f} ms)")
    if outcomes.time.size and not any(status != UNANSWERED for status in measured.status):
        reasons.append("nothing was answered over HTTP: is this the address of a router?")
    if not counted.all():
        reasons.append(f"{int((~counted).sum())} requests were the client's own fault")
    load = measured.machine_load
    peak = outcomes.peak[counted].sum()
    return Summary(
        requests=int(outcomes.time.size),
        performance=_share(outcomes.reward[counted].sum(), peak),
        performance_from_send=_share(outcomes.reward_from_send[counted].sum(), peak),
        in_time=_share(outcomes.in_time[counted].sum(), counted.sum()),
        valid=not reasons,
        invalid_because=tuple(reasons),
        latency=percentiles(outcomes.latency),
        latency_from_send=percentiles(outcomes.latency_from_send),
        first_byte_from_send=percentiles(np.asarray(measured.first_byte) - np.asarray(measured.sent)),
        lateness=late,
        statuses=dict(sorted(statuses.items())),
        models=dict(sorted(models.items())),
        tasks=tasks,
        generator_microseconds_per_request=measured.cpu_seconds / max(1, outcomes.time.size) * 1e6,
        machine_load_mean=float(np.mean(load)) if load else 0.0,
        machine_load_max=float(np.max(load)) if load else 0.0,
        cores=os.cpu_count() or 1,
    )


def percentiles(seconds: Floats) -> Percentiles:
    """Of those that are not NaN; all NaN where there is none."""
    present = seconds[~np.isnan(seconds)]
    if present.size == 0:
        return Percentiles(np.nan, np.nan, np.nan, np.nan)
    return Percentiles(*(float(value) for value in np.percentile(present, [50, 90, 99, 100])))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def per_second(outcomes: Outcomes, seconds: int) -> dict[str, list[float]]:
    """Requests, reward and peak of every second of the schedule, for pictures."""
    second = np.minimum(outcomes.time.astype(np.int64), seconds - 1)
    counted = outcomes.counted.astype(np.float64)
    return {
        "requests": np.bincount(second, minlength=seconds).astype(float).tolist(),
        "reward": np.bincount(second, outcomes.reward * counted, minlength=seconds).tolist(),
        "peak": np.bincount(second, outcomes.peak * counted, minlength=seconds).tolist(),
    }
