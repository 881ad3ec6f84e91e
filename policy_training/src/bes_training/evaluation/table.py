"""An evaluation report as tables on a terminal."""

from statistics import fmean

from rich.console import RenderableType
from rich.table import Table

from bes_api.comparison import mean_per_workload
from bes_api.report import EvaluationReport, WorkloadOutcome


def policies_table(report: EvaluationReport) -> RenderableType:
    """One row per policy, best first: means over workloads (a workload counts once, whatever its length)."""
    names = list(dict.fromkeys(outcome.policy for outcome in report.outcomes))
    workloads = {outcome.workload for outcome in report.outcomes}
    table = Table(
        title=f"{len(workloads)} workloads, base {report.base_rate:g} requests/s; percent of peak, "
        f"windows of {report.window_seconds:g} s",
    )
    table.add_column("policy", overflow="fold")  # names fold on a narrow terminal; figures are never cut
    for heading in ("performance", "in time", "≥ 96 %", "≥ 98 %", "differs"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = {name: [each for each in report.outcomes if each.policy == name] for name in names}
    for name in sorted(names, key=lambda name: -fmean(mean_per_workload(rows[name], name).values())):
        table.add_row(*_policy_row(name, rows[name]), style="bold" if name == report.comparator else None)
    return table


def tasks_table(report: EvaluationReport) -> RenderableType:
    """Performance per task and policy: the mean over runs in which the task was asked."""
    tasks = list(dict.fromkeys(task for outcome in report.outcomes for task in outcome.per_task))
    table = Table(title="performance per task, percent of peak")
    table.add_column("policy")
    for task in tasks:
        table.add_column(task, justify="right")
    for name in dict.fromkeys(outcome.policy for outcome in report.outcomes):
        cells = []
        for task in tasks:
            found = [each.per_task[task] for each in report.outcomes if each.policy == name and task in each.per_task]
            asked = [each.performance for each in found if each.requests]
            cells.append(_percent(fmean(asked)) if asked else "-")
        table.add_row(name, *cells)
    return table


def comparisons_tables(report: EvaluationReport) -> list[RenderableType]:
    """A table per opponent: paired differences in points of peak, 95 % intervals, the worst workload."""
    tables: list[RenderableType] = []
    for against in dict.fromkeys(each.against for each in report.comparisons):
        table = Table(title=f"points of peak above {against}, paired over workloads")
        table.add_column("policy", overflow="fold")
        for heading in ("mean", "95 % interval", "worst"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("on workload", overflow="fold")
        for each in report.comparisons:
            if each.against == against:
                reach = f"{_points(each.low)} .. {_points(each.high)}"
                table.add_row(each.policy, _points(each.mean), reach, _points(each.worst), each.worst_workload)
        tables.append(table)
    return tables


def _policy_row(name: str, outcomes: list[WorkloadOutcome]) -> list[str]:
    scores = mean_per_workload(outcomes, name)
    differs = [each.differs for each in outcomes if each.differs is not None]
    return [
        name,
        _percent(fmean(scores.values())),
        _percent(fmean(each.in_time for each in outcomes)),
        _percent(fmean(each.windows_above_96 for each in outcomes)),
        _percent(fmean(each.windows_above_98 for each in outcomes)),
        _percent(fmean(differs)) if differs else "-",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"
