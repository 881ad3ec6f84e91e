"""Figures, intervals and comparisons on runs small enough to add up by hand."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_api.comparison import best_of_each, best_policy, compare, mean_per_workload
from bes_api.intervals import paired_interval, t_quantile
from bes_api.report import EvaluationReport, WorkloadOutcome
from bes_training.evaluation.comparison import BEST_STATIC, Subject, evaluate, report_of
from bes_training.evaluation.figures import differing, figures_of, window_shares
from bes_training.workloads.workload import Workload

Array = np.ndarray[Any, Any]


class Run(NamedTuple):
    time: Array
    task: Array
    model: Array
    engine: Array
    reward: Array
    peak: Array
    in_time: Array


def run_of(time: list[float], reward: list[float], task: list[int] | None = None, engine: int = 0) -> Run:
    """Peak 1 everywhere."""
    count = len(time)
    tasks = np.zeros(count, np.int64) if task is None else np.array(task)
    engines = np.full(count, engine)
    rewards = np.array(reward, np.float64)
    return Run(np.array(time, np.float64), tasks, engines, engines, rewards, np.ones(count), rewards > 0)


def workload_of(identity: str, count: int = 4) -> Workload:
    zeros = np.zeros(count, np.int64)
    return Workload(identity, np.arange(count, dtype=float), zeros, zeros + 8, zeros + 2, zeros, float(count))


def test_performance_is_reward_over_peak() -> None:
    figures = figures_of(run_of([0, 1, 2, 3], [1.0, 0.5, 0.0, 0.5]), 1)
    assert (figures.requests, figures.performance, figures.in_time) == (4, 0.5, 0.75)


def test_windows_are_judged_by_their_own_peak_and_empty_ones_left_out() -> None:
    run = run_of([0.1, 0.9, 1.5, 5.0, 5.9], [1.0, 0.94, 1.0, 0.96, 0.96])
    assert window_shares(run, 1.0) == pytest.approx([0.97, 1.0, 0.96])
    figures = figures_of(run, 1)
    assert figures.windows_above_96 == 1.0
    assert figures.windows_above_98 == pytest.approx(1 / 3)
    assert window_shares(run, 10.0) == pytest.approx([0.972])


def test_each_task_has_its_own_figures() -> None:
    figures = figures_of(run_of([0, 1, 2], [1.0, 0.0, 0.5], task=[0, 1, 1]), 3)
    assert [(each.requests, each.performance, each.in_time) for each in figures.per_task] == [
        (1, 1.0, 1.0), (2, 0.25, 0.5), (0, 1.0, 1.0),
    ]  # fmt: skip


def test_nothing_asked_is_nothing_lost() -> None:
    figures = figures_of(run_of([], []), 2)
    assert (figures.performance, figures.in_time, figures.windows_above_98) == (1.0, 1.0, 1.0)


def test_differing_counts_decisions_with_another_engine() -> None:
    one, other = run_of([0, 1, 2, 3], [1, 1, 1, 1]), run_of([0, 1, 2, 3], [1, 1, 1, 1])
    assert differing(one, other) == 0.0
    other.engine[2] = 5
    assert differing(one, other) == 0.25
    with pytest.raises(ValueError, match="one workload"):
        differing(one, run_of([0], [1]))


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.7062047),
        (0.975, 2, 4.3026527),
        (0.95, 5, 2.0150484),
        (0.975, 36, 2.0280940),
        (0.995, 9, 3.2498355),
    ],
)
def test_t_quantiles_agree_with_the_tables(probability: float, freedom: int, expected: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=1e-6)


def test_the_interval_of_a_hand_computed_example() -> None:
    """Differences 1, 2, 3, 4: mean 2.5, sd sqrt(5/3), error sqrt(5/12), t(3) = 3.1824463."""
    interval = paired_interval([1.0, 2.0, 3.0, 4.0])
    reach = 3.1824463 * math.sqrt(5 / 12)
    assert interval == pytest.approx((2.5, 2.5 - reach, 2.5 + reach, 4), abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    interval = paired_interval(values)
    assert interval.low <= interval.mean <= interval.high
    assert interval.n == len(values)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired_interval([])


SUBJECT = Subject("sha256:" + "0" * 64, ("only",), 10.0)


def evaluated(threads: int = 1) -> tuple[WorkloadOutcome, ...]:
    """Two workloads, one with two realisations; `steady` earns .5 everywhere, `fickle` what the workload says."""
    earned = {"calm/1": 0.9, "calm/2": 0.7, "burst/1": 0.2}

    def steady(workload: Workload) -> Run:
        return run_of(list(workload.time), [0.5] * len(workload))

    def fickle(workload: Workload) -> Run:
        return run_of(list(workload.time), [earned[workload.id]] * len(workload), engine=1)

    policies = {"steady": steady, "fickle": fickle}
    return evaluate(SUBJECT, policies, map(workload_of, earned), "steady", threads)


def test_realisations_are_averaged_before_workloads_are_compared() -> None:
    outcomes = evaluated()
    assert mean_per_workload(outcomes, "fickle") == pytest.approx({"calm": 0.8, "burst": 0.2})
    report = report_of(SUBJECT, outcomes, statics=["steady"], comparator="steady")
    against_rule, against_static = report.comparisons
    assert (against_rule.policy, against_rule.against, against_rule.n) == ("fickle", "steady", 2)
    assert against_rule.mean == pytest.approx(0.0)
    assert against_rule.worst_workload == "burst"
    assert against_rule.worst == pytest.approx(-0.3)
    assert against_static.against == BEST_STATIC
    assert against_static.mean == pytest.approx(0.0)


def test_the_best_static_is_chosen_workload_by_workload() -> None:
    scores = [{"calm": 0.5, "burst": 0.5}, {"calm": 0.8, "burst": 0.2}]
    assert best_of_each(scores) == {"calm": 0.8, "burst": 0.5}
    third = compare("third", {"calm": 0.7, "burst": 0.6}, BEST_STATIC, best_of_each(scores))
    assert [third.mean, third.worst] == pytest.approx([0.0, -0.1])
    assert report_of(SUBJECT, evaluated(), statics=["steady", "fickle"]).comparisons == ()


def test_threads_change_nothing() -> None:
    assert evaluated(threads=4) == evaluated()


def test_only_other_policies_differ_from_the_comparator() -> None:
    differs = {(each.policy, each.differs) for each in evaluated()}
    assert differs == {("steady", None), ("fickle", 1.0)}


def test_the_comparator_is_the_best_mean_over_workloads() -> None:
    assert best_policy(evaluated(), ["fickle", "steady"]) == "fickle"  # equal means: the first


def test_policies_of_different_workloads_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same workloads"):
        compare("a", {"x": 1.0}, "b", {"y": 1.0})


def test_a_report_is_read_as_it_was_written(tmp_path: Any) -> None:
    report = report_of(SUBJECT, evaluated(), comparator="steady")
    report.write(tmp_path / "report.json")
    assert EvaluationReport.read(tmp_path / "report.json") == report
