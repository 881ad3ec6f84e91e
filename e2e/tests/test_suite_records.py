"""What the suite's records claim follows from the report, and a bar stands only where one was set."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bes_api.report import EvaluationReport, WorkloadOutcome
from bes_lab.results import recorder
from bes_lab.suite import comparator_records
from bes_training.evaluation.command import Evaluation
from bes_training.evaluation.comparison import Subject, report_of

pytestmark = pytest.mark.slow  # imports the simulator


def outcome(workload: str, policy: str, performance: float) -> WorkloadOutcome:
    return WorkloadOutcome(
        workload=workload,
        policy=policy,
        seed=1,
        requests=100,
        performance=performance,
        in_time=1.0,
        windows_above_96=0.0,
        windows_above_98=0.0,
    )


def evaluation(learned: list[float]) -> Evaluation:
    rule = [0.80, 0.81, 0.82]
    outcomes = tuple(
        outcome(f"w{index}", name, value)
        for name, values in (("Rule", rule), ("Learned", learned))
        for index, value in enumerate(values)
    )
    subject = Subject("sha256:" + "0" * 64, ("task",), 100.0)
    report: EvaluationReport = report_of(subject, outcomes, (), "Rule")
    contestants = SimpleNamespace(policies={"Rule": None, "Learned": None}, rules=("Rule",), statics=())
    return cast(Evaluation, SimpleNamespace(report=report, contestants=contestants))


def records(sample: str, learned: list[float]) -> dict[str, Any]:
    made = comparator_records(sample, evaluation(learned), recorder("test"))
    return {record.id.removeprefix(f"{sample}."): record for record in made}


def test_mean_interval_and_worst_workload_are_judged() -> None:
    found = records("opt-time-sliced", [0.83, 0.84, 0.84])
    assert found["Learned.mean"].measured == pytest.approx(2.667, abs=1e-3)
    assert (found["Learned.mean"].met, found["Learned.low"].met, found["Learned.worst"].met) == (True, True, True)


def test_losing_one_workload_by_more_than_a_point_falls_short() -> None:
    found = records("opt-time-sliced", [0.95, 0.95, 0.80])
    assert found["Learned.mean"].met
    assert found["Learned.worst"].measured == pytest.approx(-2.0)
    assert found["Learned.worst"].met is False
    assert "w2" in found["Learned.worst"].claim


def test_a_sample_without_a_bar_is_only_stated() -> None:
    assert {record.met for record in records("opt-vllm", [0.83, 0.84, 0.84]).values()} == {None}
