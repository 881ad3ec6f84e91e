"""The suite with old figures: what is compared with what, and one real repetition of a small suite."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bes_lab import staleness
from bes_lab.results import recorder
from bes_lab.staleness import Setting
from bes_lab.suite import scenario_named
from bes_training.evaluation.command import Evaluation, Terms, judge
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part

pytestmark = pytest.mark.slow  # imports the simulator and, where its cache is empty, compiles it

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Rules and static models on two workloads at the base and at four times of it."""
    scenario = scenario_named("opt-paper", EXAMPLES)
    suites = [
        load_suite(part).model_copy(update={"seeds": (1,), "workloads": load_suite(part).workloads[1:3]})
        for part in (Part.TEST, Part.VALIDATION)
    ]
    return judge(scenario, [], Terms(*suites), Console(quiet=True))


def test_a_repetition_has_the_same_requests_at_other_routers_and_old_figures(evaluation: Evaluation) -> None:
    setting = Setting(5.0, "4u")
    plain = list(evaluation.suite.realise(evaluation.setting))
    for before, after in zip(plain, setting.workloads(iter(plain)), strict=True):
        assert after.time is before.time
        assert after.router_shares() == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.03)
        figures = setting.figures(12)(after)
        assert (figures.interval, len(figures.phases), len(set(figures.phases))) == (5.0, 12, 12)
        assert [poll.share for poll in figures.polls] == [0.7, 0.1, 0.1, 0.1]
    assert setting.figures(12)(plain[0]) == setting.figures(12)(plain[0])
    assert Setting(0.0, "2").figures(12)(plain[0]).interval == 0.0


def test_records_compare_every_policy_with_itself_under_live_figures_and_the_same_routers(
    evaluation: Evaluation,
) -> None:
    made = staleness.records("opt-paper", evaluation, [], 0.5, recorder("test"), Console(quiet=True), ("4u",))
    found = {record.id: record for record in made}
    assert set(found) == {f"opt-paper.stale.{age}s.4u.{what}" for age in (0, 5, 15) for what in ("comparator", "most")}
    old, live = (staleness.repeated(evaluation, [], Setting(age, "4u")) for age in (5.0, 0.0))
    scores = {
        name: np.mean([100 * each.performance for each in old if each.policy == name])
        - np.mean([100 * each.performance for each in live if each.policy == name])
        for name in evaluation.contestants.policies
    }
    most = found["opt-paper.stale.5s.4u.most"]
    assert most.measured == pytest.approx(min(scores.values()))
    assert min(scores, key=lambda name: scores[name]) in most.claim
    assert most.bar == ">= -1"
    assert found["opt-paper.stale.0s.4u.most"].bar is None
    assert found["opt-paper.stale.5s.4u.comparator"].measured == pytest.approx(
        scores[str(evaluation.report.comparator)]
    )
