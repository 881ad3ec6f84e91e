"""Policies compared over the workloads of a report: the same arithmetic for whoever writes it and whoever judges it."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from bes_api.intervals import paired_interval
from bes_api.report import Comparison, WorkloadOutcome


def compare(policy: str, scores: Mapping[str, float], against: str, others: Mapping[str, float]) -> Comparison:
    """``policy`` less ``against`` in performance, paired by workload.

    The unit is the workload: its realisations (seeds) were averaged before, for they are not independent of each other.
    Raises ValueError where the two were not run on the same workloads.
    """
    if scores.keys() != others.keys():
        raise ValueError(f"{policy} and {against} were not run on the same workloads; evaluate both on one suite")
    differences = {workload: scores[workload] - others[workload] for workload in scores}
    interval = paired_interval(list(differences.values()))
    worst = min(differences, key=lambda workload: differences[workload])
    return Comparison(
        policy=policy,
        against=against,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        worst=differences[worst],
        worst_workload=worst,
        n=interval.n,
    )


def mean_per_workload(outcomes: Iterable[WorkloadOutcome], policy: str) -> dict[str, float]:
    """Performance per workload, averaged over its realisations."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.policy == policy:
            found.setdefault(outcome.workload, []).append(outcome.performance)
    return {workload: fmean(values) for workload, values in found.items()}


def best_of_each(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The highest score of each workload."""
    return {workload: max(each[workload] for each in scores) for workload in scores[0]}


def best_policy(outcomes: Iterable[WorkloadOutcome], candidates: Sequence[str]) -> str:
    """The candidate with the highest mean over workloads (the first of equals): how a comparator is chosen."""
    kept = list(outcomes)
    return max(candidates, key=lambda name: fmean(mean_per_workload(kept, name).values()))
