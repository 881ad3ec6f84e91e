"""`bes evaluate` end to end in the compiled simulator, on suites of two short workloads."""

import argparse
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bes_api.documents import the_service
from bes_api.errors import BestEffortError, OutputError
from bes_api.passport import Passport, TrainingSummary, TunedRule
from bes_api.report import EvaluationReport
from bes_api.router_config import Placement
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_router.policy import candidates
from bes_router.policy.artifact import write_artifact
from bes_training.evaluation.command import EVALUATE, Evaluation, Terms, judge, write
from bes_training.evaluation.contestants import UnknownPolicyError, contestants_of, rule_of
from bes_training.workloads.suite import Definition, Stationary, Suite
from bes_training.workloads.traces import Part

EXAMPLE = Path(__file__).parents[2] / "examples" / "opt-time-sliced.yaml"
STATICS = ("Static(opt-125m)", "Static(opt-1.3b)", "Static(opt-6.7b)")


@pytest.fixture(name="scenario", scope="module")
def the_scenario() -> Scenario:
    return scenario_of(*the_service(EXAMPLE))


def suite_of(part: Part) -> Suite:
    loads = (0.05, 12.0)  # nobody there, and far too many
    workloads = tuple(
        Definition(id=f"poisson-{load:g}x", family="poisson", law=Stationary(), multiple=load) for load in loads
    )
    return Suite(part=part, seeds=(1,), workloads=workloads)


def artifact_in(folder: Path, scenario: Scenario) -> Path:
    """A scorer whose weights are zero: exactly its base rule. It brings a tuned rule."""
    base = (0.1, 0, 0.1, 0.3, 1.0, -3.0, 0, 1.5, 0, 0, 0, 0.5, 0, 0, 1e9)
    passport = Passport(
        kind="Learned",
        layout="candidate/2",
        feature_names=candidates.FEATURES,
        feature_offset=(0.0,) * candidates.WIDTH,
        feature_scale=(1.0,) * candidates.WIDTH,
        models=tuple(model.name for model in scenario.models),
        tasks=tuple(task.name for task in scenario.tasks),
        scenario_hash=scenario.content_hash(),
        seeds=(1,),
        weights_sha256="sha256:" + "0" * 64,
        base_parameters=base,
        guessed_base_parameters=base,
        tuned_rules={"DeadlineAware": TunedRule(placement=Placement.LEAST_FINISH, parameters=(1e9, 0.3))},
        training=TrainingSummary(learner="Evolution", decisions=0, seconds=0, seed=1),
    )
    tensors = {
        "linear": np.zeros((2, 24)),
        "hidden": np.zeros((2, 24)),
        "bias": np.zeros(2),
        "out": np.zeros((2, 2)),
    }
    write_artifact(folder, passport, tensors)
    return folder


@pytest.fixture(name="evaluation", scope="module")
def an_evaluation(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    artifact = artifact_in(tmp_path_factory.mktemp("artifact"), scenario)
    terms = Terms(suite_of(Part.TEST), suite_of(Part.VALIDATION), threads=2)
    return judge(scenario, [str(artifact), "Priced/LeastFinish"], terms, Console(file=StringIO()))


def test_statics_rules_and_what_was_named_take_part(evaluation: Evaluation) -> None:
    names = {outcome.policy for outcome in evaluation.report.outcomes}
    assert names == {*STATICS, "Priced", "Threshold", "DeadlineAware (tuned)", "Priced/LeastFinish", "Learned"}
    assert evaluation.contestants.statics == STATICS
    assert "Learned" not in evaluation.contestants.rules


def test_idle_the_largest_model_reaches_its_peak_and_overloaded_it_does_not(evaluation: Evaluation) -> None:
    found = {
        (each.policy, each.workload): each.performance for each in evaluation.report.outcomes if each.policy in STATICS
    }
    assert found["Static(opt-6.7b)", "poisson-0.05x"] == pytest.approx(1.0)
    assert found["Static(opt-6.7b)", "poisson-12x"] < found["Static(opt-125m)", "poisson-12x"] < 1.0


def test_the_comparator_is_a_rule_and_everybody_is_compared_with_it(evaluation: Evaluation) -> None:
    report = evaluation.report
    assert report.comparator in evaluation.contestants.rules
    against = [each.policy for each in report.comparisons if each.against == report.comparator]
    assert len(against) == 7
    assert all(each.differs is None for each in report.outcomes if each.policy == report.comparator)


def test_report_and_pictures_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    names = write(evaluation, tmp_path / "new")
    assert set(names) == {"evaluation.json", "performance.png", "differences.png", "burst.png"}
    assert EvaluationReport.read(tmp_path / "new" / "evaluation.json") == evaluation.report


def test_a_rule_tuned_for_another_scenario_stays_out(scenario: Scenario, tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path, scenario)
    other = scenario.model_copy(update={"max_in_flight": 100})
    names = contestants_of(other, [str(artifact)]).policies
    assert "DeadlineAware" in names
    assert "DeadlineAware (tuned)" not in names


@pytest.mark.parametrize("name", ["Pricey", "Priced/Anywhere", "opt-66b", "no/such/folder"])
def test_an_unknown_policy_gets_the_list_of_known_ones(scenario: Scenario, name: str) -> None:
    with pytest.raises(UnknownPolicyError, match=r"DeadlineAware, Priced, Threshold.*opt-125m.*Bunched"):
        rule_of(scenario, name)


def test_a_name_too_long_for_a_folder_is_an_unknown_policy(scenario: Scenario) -> None:
    with pytest.raises(UnknownPolicyError, match="is neither a rule"):
        contestants_of(scenario, ["x" * 5000])


def test_what_the_caller_can_mend_is_one_clear_error(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    EVALUATE.configure(parser)
    for arguments in (["missing.yaml"], [str(EXAMPLE), "--policy", str(tmp_path)]):
        with pytest.raises(BestEffortError):
            EVALUATE.run(parser.parse_args(arguments))


@pytest.mark.parametrize("window", ["0", "-1", "inf", "nan"])
def test_a_window_that_is_no_length_of_time_is_refused(window: str) -> None:
    parser = argparse.ArgumentParser()
    EVALUATE.configure(parser)
    with pytest.raises(BestEffortError, match=r"--window \S+: expected seconds above 0"):
        EVALUATE.run(parser.parse_args([str(EXAMPLE), f"--window={window}"]))


def test_a_folder_that_is_a_file_is_refused_before_anything_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bes_training.evaluation.command.judge", lambda *_: pytest.fail("it went to work"))
    (tmp_path / "report").write_text("here already")
    parser = argparse.ArgumentParser()
    EVALUATE.configure(parser)
    with pytest.raises(OutputError, match=r"--out .*report: cannot be written .*name another folder"):
        EVALUATE.run(parser.parse_args([str(EXAMPLE), "--out", str(tmp_path / "report")]))
    assert (tmp_path / "report").read_text() == "here already"
