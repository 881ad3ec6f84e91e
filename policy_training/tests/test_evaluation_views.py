"""What people see of an evaluation: tables and pictures of a report made by a toy policy pair."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bes_api.report import EvaluationReport
from bes_training.evaluation.comparison import Subject, evaluate, report_of
from bes_training.evaluation.plots import burst_over_time, differences, performance_over_load
from bes_training.evaluation.table import comparisons_tables, policies_table, tasks_table
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part
from bes_training.workloads.workload import Setting, Workload

SETTING = Setting(2.0, np.full(2, 128), np.full(2, 16), 1.0)


class Fixed:
    """Every request earns the same and goes to the same model."""

    def __init__(self, workload: Workload, model: int, reward: float) -> None:
        count = len(workload)
        self.time, self.task = workload.time, workload.task
        self.model = self.engine = np.full(count, model)
        self.reward, self.peak = np.full(count, reward), np.ones(count)
        self.in_time = np.ones(count, np.bool_)


def small(workload: Workload) -> Fixed:
    return Fixed(workload, 0, 0.5)


def large(workload: Workload) -> Fixed:
    return Fixed(workload, 1, 0.8 if workload.mean_rate < 5 else 0.3)


@pytest.fixture(name="report", scope="module")
def a_report() -> EvaluationReport:
    subject = Subject("sha256:" + "1" * 64, ("qa", "chat"), SETTING.base_rate)
    workloads = load_suite(Part.VALIDATION).realise(SETTING, max_requests=200)
    outcomes = evaluate(subject, {"small": small, "large": large}, workloads, comparator="small")
    return report_of(subject, outcomes, statics=["small"], comparator="small")


def rendered(table: Any, width: int = 200) -> str:
    stream = StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def test_the_policies_table_has_the_best_first_and_every_figure(report: EvaluationReport) -> None:
    text = rendered(policies_table(report))
    rows = [line for line in text.splitlines() if " small " in line or " large " in line]
    assert len(rows) == 2
    assert "50.0" in text
    assert "100.0" in text
    assert "34 workloads, base 2 requests/s" in text


def test_the_tasks_table_has_a_column_per_task(report: EvaluationReport) -> None:
    text = rendered(tasks_table(report))
    assert "qa" in text
    assert "chat" in text


def test_the_comparisons_table_says_points_and_the_worst_workload(report: EvaluationReport) -> None:
    text = "".join(map(rendered, comparisons_tables(report)))
    assert "-20.00" in text  # 0.3 against 0.5
    assert "best static of each workload" in text


def test_no_figure_is_cut_where_long_names_meet_80_columns(report: EvaluationReport) -> None:
    name = "DeadlineAware/LeastLoaded (tuned)"
    named = EvaluationReport.model_validate_json(report.model_dump_json().replace('"large"', f'"{name}"'))
    for table in (policies_table(named), *comparisons_tables(named)):
        text = rendered(table, 80)
        assert "…" not in text
        assert "DeadlineAware/Lea" in text
    assert "-20.00" in "".join(rendered(table, 80) for table in comparisons_tables(named))


def test_every_picture_is_drawn(report: EvaluationReport, tmp_path: Path) -> None:
    suite = load_suite(Part.VALIDATION)
    performance_over_load(report, suite, tmp_path / "load.png")
    differences(report, ["large"], tmp_path / "differences.png")
    workload = next(iter(suite.realise(SETTING, max_requests=200)))
    runs = {"small": small(workload), "large": large(workload)}
    burst_over_time(workload, runs, ["opt-125m", "opt-6.7b"], tmp_path / "burst.png")
    for name in ("load", "differences", "burst"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_differences_need_a_comparator(report: EvaluationReport, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no comparator"):
        differences(report.model_copy(update={"comparator": None}), ["large"], tmp_path / "x.png")
