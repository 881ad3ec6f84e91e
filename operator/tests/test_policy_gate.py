"""The gate judges raw outcomes: every bar by itself, and nothing that a report merely claims."""

from decimal import Decimal
from typing import Any

import pytest
from policy_samples import COMPARATOR, World, outcome, passport, report, weights

from bes_api.errors import ArtifactMisfitError
from bes_api.report import EvaluationReport
from bes_api.router_config import DeadlineAwarePolicy, Placement, PricedPolicy, StaticPolicy, ThresholdPolicy
from bes_operator.policy.gate import Verdict, judge, rule_policy

SCENARIO = World().scenario
PASSPORT = passport(SCENARIO, weights())
MARGIN = Decimal("0.01")


def verdict(gains: list[float], differs: float = 0.5, margin: Decimal = MARGIN) -> Verdict:
    return judge(report(SCENARIO, gains, differs), PASSPORT, margin)


def spread(mean: float, width: float, count: int = 30) -> list[float]:
    return [mean + (width if index % 2 else -width) for index in range(count)]


@pytest.mark.parametrize(
    ("gains", "differs", "fails"),
    [
        (spread(0.02, 0.01), 0.5, ()),
        (spread(0.001, 0.001), 0.01, ()),
        (spread(0.02, 0.01), 0.0099, ("less than 1 % of decisions differ",)),
        (spread(0.0, 0.001), 0.5, ("nothing is gained",)),
        (spread(-0.002, 0.001), 0.5, ("nothing is gained",)),
        (spread(0.001, 0.05), 0.5, ("the interval reaches below -0.01",)),
        (
            spread(-0.03, 0.01),
            0.0,
            ("the interval reaches", "less than 1 %", "nothing is gained"),
        ),
    ],
)
def test_each_bar_fails_by_itself(gains: list[float], differs: float, fails: tuple[str, ...]) -> None:
    found = verdict(gains, differs).failures
    assert len(found) == len(fails)
    assert all(said.startswith(failure) for said, failure in zip(found, fails, strict=True))


def test_the_interval_is_students_over_workloads() -> None:
    judged = verdict(spread(0.02, 0.01)).judged
    # 30 values mean +- w: standard deviation w * sqrt(30 / 29); t(0.975, 29) = 2.04523
    assert judged.gain == pytest.approx(0.02)
    assert judged.gain_low == pytest.approx(0.02 - 2.04523 * 0.01 * (30 / 29) ** 0.5 / 30**0.5, abs=1e-6)
    assert (judged.score, judged.rule_score, judged.workloads) == (pytest.approx(0.82), pytest.approx(0.8), 30)


def test_the_margin_is_the_resources() -> None:
    gains = spread(0.001, 0.05)
    assert verdict(gains, margin=Decimal("0.05")).failures == ()


def test_what_the_report_claims_of_itself_counts_for_nothing() -> None:
    honest = report(SCENARIO, spread(-0.03, 0.01))
    claims: Any = {"policy": "Learned", "against": COMPARATOR, "mean": 9, "low": 9, "high": 9, "worst": 9, "n": 37}
    boasting = EvaluationReport(**{**honest.model_dump(), "comparisons": [claims | {"worst_workload": "w"}]})
    assert judge(boasting, PASSPORT, MARGIN).failures


def test_realisations_of_a_workload_count_once() -> None:
    said = report(SCENARIO, spread(0.02, 0.01, 29))
    more = [each.model_copy(update={"seed": 2}) for each in said.outcomes]
    with pytest.raises(ArtifactMisfitError, match="29 test workloads"):
        judge(said.model_copy(update={"outcomes": (*said.outcomes, *more)}), PASSPORT, MARGIN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda each: {"validation": [one for one in each.validation if "Threshold" not in one.policy]}, "Threshold"),
        (lambda each: {"validation": [one for one in each.validation if "opt-125m" not in one.policy]}, "Static"),
        (lambda _each: {"validation": ()}, "leaves out the rules"),
        (lambda each: {"validation": each.validation[1:]}, "different validation workloads"),
        (lambda _each: {"comparator": "DeadlineAware"}, "best rule"),
        (lambda each: {"outcomes": each.outcomes[1:]}, "test workloads"),
        (lambda each: {"outcomes": [one for one in each.outcomes if one.policy != "Learned"]}, "0 test workloads"),
    ],
)
def test_a_report_with_less_than_everything_is_refused(change: Any, says: str) -> None:
    said = report(SCENARIO, spread(0.02, 0.01))
    with pytest.raises(ArtifactMisfitError, match=says):
        judge(said.model_copy(update=change(said)), PASSPORT, MARGIN)


def test_the_comparator_is_the_best_on_validation_though_another_does_better_in_the_test() -> None:
    said = report(SCENARIO, spread(0.02, 0.01))
    lucky = tuple(outcome(f"w{index}", "DeadlineAware", 0.99) for index in range(30))
    found = judge(said.model_copy(update={"outcomes": (*said.outcomes, *lucky)}), PASSPORT, MARGIN)
    assert found.judged.rule == COMPARATOR


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (COMPARATOR, PricedPolicy(parameters=(1.0, 2.0, 3.0), placement=Placement.BUNCHED)),
        ("Threshold/LeastLoaded (tuned)", ThresholdPolicy(parameters=(9.0,))),
        ("Static(opt-1.3b)/Bunched (tuned)", StaticPolicy(model="opt-1.3b", placement=Placement.BUNCHED, gate=55.0)),
        ("DeadlineAware", DeadlineAwarePolicy()),
        ("Static(opt-1.3b)", StaticPolicy(model="opt-1.3b")),
        ("Static(opt-1.3b)/Bunched", StaticPolicy(model="opt-1.3b", placement=Placement.BUNCHED)),
    ],
)
def test_a_rule_is_configured_as_it_was_judged(name: str, expected: object) -> None:
    assert rule_policy(name, PASSPORT) == expected


@pytest.mark.parametrize("name", ["Priced/Bunched (tuned)", "Oracle", "Static", "Unknown/Bunched (tuned)"])
def test_a_rule_that_nobody_can_configure_is_refused(name: str) -> None:
    with pytest.raises(ArtifactMisfitError, match="train again"):
        rule_policy(name, PASSPORT)
