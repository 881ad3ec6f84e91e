"""Policies on many workloads: the evaluation itself and its report."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bes_api.comparison import best_of_each, compare, mean_per_workload
from bes_api.report import EvaluationReport, TaskOutcome, WorkloadOutcome
from bes_training.evaluation.figures import WINDOW_SECONDS, Figures, RunOutcomes, Simulate, differing, figures_of
from bes_training.workloads.workload import Workload

BEST_STATIC = "best static of each workload"
"""Not a policy: for every workload the static model that did best on it, known only afterwards."""


@dataclass(frozen=True)
class Subject:
    """What is judged: the scenario's hash, its tasks' names in order, its base rate, the window."""

    scenario_hash: str
    tasks: tuple[str, ...]
    base_rate: float
    window_seconds: float = WINDOW_SECONDS


def evaluate(
    subject: Subject,
    policies: Mapping[str, Simulate],
    workloads: Iterable[Workload],
    comparator: str | None = None,
    threads: int = 1,
) -> tuple[WorkloadOutcome, ...]:
    """Every policy on every workload; decisions are counted as different from the comparator's on the same one.

    Policies run beside each other on ``threads`` threads (compiled runs hold no lock); no policy runs twice at once.
    """
    outcomes = []
    with ThreadPoolExecutor(threads) as pool:
        for workload in workloads:
            pending = {name: pool.submit(simulate, workload) for name, simulate in policies.items()}
            runs = {name: future.result() for name, future in pending.items()}
            for name, run in runs.items():
                alone = comparator is None or name == comparator
                differs = None if alone else differing(run, runs[str(comparator)])
                outcomes.append(_outcome(subject, name, workload, run, differs))
    return tuple(outcomes)


def report_of(
    subject: Subject,
    outcomes: tuple[WorkloadOutcome, ...],
    statics: Sequence[str] = (),
    comparator: str | None = None,
    validation: tuple[WorkloadOutcome, ...] = (),
) -> EvaluationReport:
    """The report: every policy compared with the comparator, and with the best static of each workload.

    ``validation``: what the comparator was chosen by.
    """
    names = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    scores = {name: mean_per_workload(outcomes, name) for name in names}
    comparisons = []
    if comparator is not None:
        others = [name for name in names if name != comparator]
        comparisons += [compare(name, scores[name], comparator, scores[comparator]) for name in others]
    if statics:
        best = best_of_each([scores[name] for name in statics])
        others = [name for name in names if name not in statics]
        comparisons += [compare(name, scores[name], BEST_STATIC, best) for name in others]
    return EvaluationReport(
        scenario_hash=subject.scenario_hash,
        base_rate=subject.base_rate,
        window_seconds=subject.window_seconds,
        outcomes=outcomes,
        comparisons=tuple(comparisons),
        comparator=comparator,
        validation=validation,
    )


def _outcome(
    subject: Subject, policy: str, workload: Workload, run: RunOutcomes, differs: float | None
) -> WorkloadOutcome:
    figures: Figures = figures_of(run, len(subject.tasks), subject.window_seconds)
    per_task = {
        name: TaskOutcome(requests=task.requests, performance=task.performance, in_time=task.in_time)
        for name, task in zip(subject.tasks, figures.per_task, strict=True)
    }
    return WorkloadOutcome(
        workload=workload.name,
        policy=policy,
        seed=workload.seed,
        requests=figures.requests,
        performance=figures.performance,
        in_time=figures.in_time,
        windows_above_96=figures.windows_above_96,
        windows_above_98=figures.windows_above_98,
        per_task=per_task,
        differs=differs,
    )
