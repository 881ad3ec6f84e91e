"""From a configuration's choice to a policy that decides, for every choice there is."""

from pathlib import Path
from random import Random

import pytest
from policy_scenarios import (
    eligible_models,
    learned_artifact,
    opt_scenario,
    paper_artifact,
    random_request,
    random_view,
)
from pydantic import TypeAdapter

from bes_api.errors import ArtifactMisfitError, ArtifactUnreadableError
from bes_api.router_config import (
    DeadlineAwarePolicy,
    LearnedPolicy,
    PaperPolicy,
    Placement,
    PolicyChoice,
    PricedPolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_router.policy.artifact import write_artifact
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.policy.tracker import LoadTracker

SCENARIO = opt_scenario(interference=1.0)
CATALOGUE = catalogue_of(SCENARIO)


def every_choice(folder: Path) -> list[PolicyChoice]:
    write_artifact(folder / "learned", *_parts(learned_artifact(SCENARIO, 1)))
    write_artifact(folder / "paper", *_parts(paper_artifact(SCENARIO, 1)))
    rules: list[PolicyChoice] = []
    for placement in Placement:
        rules += [
            StaticPolicy(model="opt-1.3b", placement=placement),
            DeadlineAwarePolicy(placement=placement),
            PricedPolicy(placement=placement),
            ThresholdPolicy(placement=placement),
        ]
    return [*rules, LearnedPolicy(artifact=folder / "learned"), PaperPolicy(artifact=folder / "paper")]


def _parts(artifact):  # type: ignore[no-untyped-def]  # two fields in the order write_artifact takes them
    return artifact.passport, artifact.tensors


def test_every_choice_loads_and_decides_with_published_defaults(tmp_path: Path) -> None:
    random = Random(4)
    for choice in every_choice(tmp_path):
        policy = load_policy(TypeAdapter(PolicyChoice).validate_python(choice.model_dump()), SCENARIO, CATALOGUE)
        assert policy.name.startswith(choice.type)
        for _ in range(50):
            view, request = random_view(CATALOGUE, random, 9.0), random_request(CATALOGUE, random, 9.0)
            allowed = eligible_models(CATALOGUE, view, request)
            decision = policy.choose(request, view, 9.0)
            assert decision.model in allowed if allowed else decision.engine == -1


def test_static_serves_its_model_and_another_while_that_one_is_gone() -> None:
    policy = load_policy(StaticPolicy(model="opt-6.7b"), SCENARIO, CATALOGUE)
    assert policy.name == "Static(opt-6.7b)"
    tracker = LoadTracker(CATALOGUE, 0.0)
    request = RoutingRequest(0, 128, 16, 0.6, 0.6)
    assert policy.choose(request, tracker.view(0.0), 0.0).model == 2
    for engine in range(8, 12):
        tracker.set_ready(engine, False)
    assert policy.choose(request, tracker.view(0.0), 0.0).model == 0, "the lightest that is left"


def test_deadline_aware_takes_the_best_model_that_still_meets_the_deadline() -> None:
    policy = load_policy(DeadlineAwarePolicy(parameters=(1e9, 0.0)), SCENARIO, CATALOGUE)
    view = LoadTracker(CATALOGUE, 0.0).view(0.0)
    chosen = [
        policy.choose(RoutingRequest(0, 128, 16, within, within), view, 0.0).model for within in (0.6, 0.15, 0.05)
    ]
    assert chosen == [2, 1, 0]
    assert policy.choose(RoutingRequest(0, 128, 16, -1.0, -1.0), view, 0.0).model == 0, "too late anyway: the quickest"


def test_priced_leaves_a_model_alone_above_its_gate() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    for number in range(400):
        tracker.arrived(number * 0.01)
    request = RoutingRequest(0, 128, 16, 4.6, 4.6)
    free = (1e9, 0.2, 0.1, 1.0, 1.0, 0.0, 1e9, 1e9, 1e9)
    for gates, model in (((1e9, 1e9, 1e9), 2), ((1e9, 1e9, 0.0), 1), ((1e9, 0.0, 0.0), 0), ((0.0, 0.0, 0.0), 0)):
        policy = load_policy(PricedPolicy(parameters=free[:6] + gates), SCENARIO, CATALOGUE)
        assert policy.choose(request, tracker.view(4.0), 4.0).model == model


def test_threshold_passes_a_model_over_above_its_tasks_load() -> None:
    thresholds = (1e9, 99.0, 99.0, 2.0, 99.0, 99.0, 99.0)
    policy = load_policy(ThresholdPolicy(parameters=thresholds), SCENARIO, CATALOGUE)
    tracker = LoadTracker(CATALOGUE, 0.0)
    for _ in range(3):
        for engine in range(8, 12):
            tracker.sent(engine, 0.0)
    view = tracker.view(0.0)
    assert policy.choose(RoutingRequest(0, 128, 16, 0.6, 0.6), view, 0.0).model == 1
    assert policy.choose(RoutingRequest(1, 128, 16, 0.6, 0.6), view, 0.0).model == 2


def test_placements_differ_as_they_say() -> None:
    """Model 2: engine 8 holds least but its GPU is busy; GPU 3 is the slot's."""
    tracker = LoadTracker(CATALOGUE, 0.0)
    for engine, count in ((8, 1), (9, 2), (10, 3), (11, 4), (0, 30), (4, 30)):
        for _ in range(count):
            tracker.sent(engine, 0.0)
    now = 0.02 * 3.5
    view = tracker.view(now)
    request = RoutingRequest(0, 128, 16, 0.6, 0.6)
    chosen = {
        placement: load_policy(
            ThresholdPolicy(parameters=(-1.0, *(99.0,) * 6), placement=placement), SCENARIO, CATALOGUE
        ).choose(request, view, now)
        for placement in Placement
    }
    assert [chosen[each].engine for each in (Placement.LEAST_LOADED, Placement.LEAST_FINISH, Placement.BUNCHED)] == [
        8,
        9,
        11,
    ]
    gated = ThresholdPolicy(parameters=(1e9, *(99.0,) * 6), placement=Placement.BUNCHED)
    assert load_policy(gated, SCENARIO, CATALOGUE).choose(request, view, now).engine == 8, "below the gate"


@pytest.mark.parametrize("choice", [DeadlineAwarePolicy(parameters=(1.0,)), PricedPolicy(parameters=(0.0,) * 8)])
def test_a_wrong_number_of_parameters_says_how_many(choice: PolicyChoice) -> None:
    with pytest.raises(ArtifactMisfitError, match=r"takes \d parameters for this service, not \d"):
        load_policy(choice, SCENARIO, CATALOGUE)


def test_an_artifact_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadableError):
        load_policy(LearnedPolicy(artifact=tmp_path / "none"), SCENARIO, CATALOGUE)
