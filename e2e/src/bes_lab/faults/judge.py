"""What a fault cost its clients, judged from what they saw and from what the routers counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from bes_api.scenario import Scenario
from bes_lab.faults.seen import SPOILED, Kind, Seen
from bes_lab.faults.steps import Step
from bes_router.policy.reward import reward_share


@dataclass(frozen=True)
class Moments:
    """When the fault began, when its end was asked for, and when that was done; the system's monotonic clock."""

    began: float
    begun: float
    ending: float
    ended: float


@dataclass(frozen=True)
class Afterwards:
    """The routers' word after the clients had ended. ``hits``: of an engine's fault; None where none is counted."""

    in_flight: float
    unaccounted: int
    hits: int | None


@dataclass(frozen=True)
class Verdict:
    """One fault's figures. ``failed`` leaves out what the fault excuses, which ``excused`` counts."""

    name: str
    title: str
    requests: int
    kinds: dict[str, int]
    statuses: dict[str, int]
    failed: int
    excused: int
    spoiled: int
    in_flight_after: float
    unaccounted: int
    hits: int | None
    seconds_to_take_effect: float
    seconds_to_return: float
    performance_before: float
    performance_during: float
    performance_after: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def judge(step: Step, scenario: Scenario, seen: Sequence[Seen], moments: Moments, after: Afterwards) -> Verdict:
    """See the module."""
    bad = [each for each in seen if each.kind is not Kind.ANSWERED]
    excused = [each for each in bad if _excused(step, each, moments)]
    during = [each for each in seen if moments.began <= each.due < moments.ended]
    return Verdict(
        name=step.name,
        title=step.title,
        requests=len(seen),
        kinds=dict(Counter(str(each.kind) for each in seen)),
        statuses=dict(Counter(str(each.status) for each in seen)),
        failed=len(bad) - len(excused),
        excused=len(excused),
        spoiled=sum(each.kind in SPOILED for each in seen),
        in_flight_after=after.in_flight,
        unaccounted=after.unaccounted,
        hits=after.hits,
        seconds_to_take_effect=moments.begun - moments.began,
        seconds_to_return=moments.ended - moments.ending,
        performance_before=performance(scenario, (each for each in seen if each.due < moments.began)),
        performance_during=performance(scenario, during),
        performance_after=performance(scenario, (each for each in seen if each.due >= moments.ended)),
        notes=tuple(sorted({f"{each.kind} {each.status}: {each.note[-160:]}" for each in bad})[:5]),
    )


def _excused(step: Step, seen: Seen, moments: Moments) -> bool:
    if seen.kind in SPOILED:
        return False
    if step.excuses == "begun":
        return seen.kind is Kind.BROKEN
    if step.excuses == "own":
        return seen.router == step.ends_router and seen.sent <= moments.begun
    if step.excuses == "silent":  # what waits when nothing comes: a clean refusal is all that there is
        return seen.kind is Kind.REFUSED and seen.status == 504
    return False


def performance(scenario: Scenario, seen: Iterable[Seen]) -> float:
    """Reward as a share of the most that the same requests could earn, in percent; latency from the due instant."""
    tasks = {task.name: task for task in scenario.tasks}
    earned = peak = 0.0
    for each in seen:
        task = tasks[each.task]
        peak += max(task.quality.values())
        if each.kind is Kind.ANSWERED:
            share = reward_share(each.ended, each.due + task.full_until_seconds, each.due + task.zero_from_seconds)
            earned += share * task.quality.get(each.model, 0.0)
    return 100.0 * earned / peak if peak else float("nan")
