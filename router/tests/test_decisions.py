"""A decision is explained afterwards as it was taken, from little, and only while it is kept."""

import time
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_scenarios import eligible_models, opt_scenario, random_request, random_scenario, random_view
from test_policy_eligibility import every_policy

from bes_api.explanation import Explanation
from bes_api.scenario import Scenario
from bes_router.decisions import KEPT, DecisionRing, Setting
from bes_router.policy import rules
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.policies import RulePolicy
from bes_router.policy.tracker import LoadTracker

NOW = 100.0


def setting(scenario: Scenario, catalogue: Catalogue, policy: Policy) -> Setting:
    models, tasks = [each.name for each in scenario.models], [each.name for each in scenario.tasks]
    return Setting(catalogue, policy, policy.name, models, tasks, "Direct")


def consistent(view: LoadView, catalogue: Catalogue) -> LoadView:
    """The view with what follows from the rest of it made so."""
    gpus = range(len(catalogue.interference))
    sent = [
        max((at for at, on in zip(view.sent_engine, catalogue.engine_gpu, strict=True) if on == gpu), default=-1e9)
        for gpu in gpus
    ]
    return view._replace(sent_gpu=sent)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_explanation_comes_to_the_decision_that_was_taken(seed: int) -> None:
    random = Random(seed)
    scenario = random_scenario(random)
    catalogue = catalogue_of(scenario)
    view = consistent(random_view(catalogue, random, NOW), catalogue)
    request = random_request(catalogue, random, NOW)
    ring = DecisionRing("b")
    for policy in every_policy(scenario, catalogue, random):
        decision = policy.choose(request, view, NOW)
        number = ring.note(
            setting(scenario, catalogue, policy), request, view, decision, now=NOW, arrival=NOW, figures_at=NOW - 2.0
        )
        found = ring.explain(f"b-{number}")
        assert found is not None
        assert found.load_guessed == view.guessed
        eligible = eligible_models(catalogue, view, request)
        assert {each.model for each in found.weighed} == {scenario.models[model].name for model in eligible}
        if not eligible:
            assert (found.model, found.backend, found.weighed) == (None, None, ())
            continue
        best = found.weighed[0]
        assert (best.chosen, best.model) == (True, found.model)
        assert found.model == scenario.models[decision.model].name
        assert (
            best.backend == found.backend == f"{found.model}/{decision.engine - catalogue.model_first[decision.model]}"
        )
        assert best.score is not None
        assert best.score >= max(each.score or -1e300 for each in found.weighed) - 1e-9
        assert best.predicted_finish_seconds == rules.finish_on(catalogue, view, request, decision.engine)
        assert Explanation.model_validate_json(found.model_dump_json()) == found


@dataclass(frozen=True)
class Case:
    now: float = NOW
    figures_at: float | None = None
    retried_from: int = 0
    full: float = 0.6
    zero: float = 2.0
    pinned: int = -1

    def explained(self) -> Explanation:
        scenario = opt_scenario()
        catalogue = catalogue_of(scenario)
        tracker = LoadTracker(catalogue, NOW)
        policy = RulePolicy("DeadlineAware", catalogue, rules.DEADLINE_AWARE, 0, [0.0, 0.1])
        request = RoutingRequest(1, 100, 16, NOW + self.full, NOW + self.zero, self.pinned)
        view = tracker.view(NOW)
        ring = DecisionRing("boot")
        number = ring.note(
            setting(scenario, catalogue, policy),
            request,
            view,
            policy.choose(request, view, NOW),
            now=self.now,
            arrival=NOW,
            figures_at=tracker.figures_at if self.figures_at is None else self.figures_at,
            retried_from=self.retried_from,
        )
        for engine in range(len(catalogue.engine_model)):
            tracker.sent(engine, NOW)
            tracker.set_ready(engine, False)
        found = ring.explain(f"boot-{number}")
        assert found is not None
        return found


def test_it_says_deadline_slack_figures_and_where_it_was_retried_from() -> None:
    found = Case(now=NOW + 0.1, figures_at=NOW - 1.0, retried_from=17, pinned=2).explained()
    assert (found.task, found.policy, found.figures_source) == ("soft", "DeadlineAware", "Direct")
    assert found.full_until_seconds == pytest.approx(0.6)
    assert found.zero_from_seconds == pytest.approx(2.0)
    assert found.figures_age_seconds == pytest.approx(1.1)
    assert (found.retried_from, found.pinned) == ("boot-17", "opt-6.7b")
    (only,) = found.weighed
    assert only.slack_seconds == pytest.approx(1.9 - only.predicted_finish_seconds)
    assert only.expected_reward == pytest.approx(0.763)


def test_before_figures_have_come_their_age_is_unknown() -> None:
    found = Case(now=time.monotonic()).explained()
    assert found.figures_age_seconds is None
    assert found.retried_from is None
    assert found.at == pytest.approx(time.time(), abs=5.0)


def test_what_happens_afterwards_does_not_change_the_explanation() -> None:
    assert all(each.load == 0.0 for each in Case().explained().weighed)


def test_a_late_answer_is_expected_to_earn_nothing() -> None:
    found = Case(full=0.001, zero=0.002).explained()
    assert all(each.slack_seconds < 0.0 and each.expected_reward == 0.0 for each in found.weighed)


class Silent:
    """A policy that does not weigh."""

    name = "Silent"

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - a contract
        return Decision(0, 2)


def test_a_policy_that_says_nothing_of_its_scores_is_explained_by_predictions() -> None:
    scenario = opt_scenario()
    catalogue = catalogue_of(scenario)
    view = LoadTracker(catalogue, NOW).view(NOW)
    request = RoutingRequest(0, 100, 16, NOW + 0.6, NOW + 0.6)
    ring = DecisionRing("b")
    ring.note(
        setting(scenario, catalogue, Silent()), request, view, Decision(0, 2), now=NOW, arrival=NOW, figures_at=NOW
    )
    found = ring.explain("b-1")
    assert found is not None
    assert found.weighed[0].model == "opt-125m"
    assert found.weighed[0].backend == "opt-125m/2"
    assert all(each.score is None for each in found.weighed)


class Broken(Silent):
    """A policy whose words are of no use."""

    def weigh(self, request: RoutingRequest, view: LoadView, now: float) -> list[tuple[int, float]]:  # noqa: ARG002
        return [(0, 1.0), (99, 2.0)]


def test_a_policy_that_fails_to_weigh_costs_the_scores_and_not_the_explanation() -> None:
    scenario = opt_scenario()
    catalogue = catalogue_of(scenario)
    view = LoadTracker(catalogue, NOW).view(NOW)
    request = RoutingRequest(0, 100, 16, NOW + 0.6, NOW + 0.6)
    ring = DecisionRing("b")
    ring.note(
        setting(scenario, catalogue, Broken()), request, view, Decision(0, 2), now=NOW, arrival=NOW, figures_at=NOW
    )
    found = ring.explain("b-1")
    assert found is not None
    assert [each.score for each in found.weighed] == [None, None, None]


@pytest.mark.parametrize(
    "name", ["", "1", "b", "b-", "b-x", "b-0", "b-2", "c-1", "b-1 ", "b--1", "b-٣", "b-" + "9" * 40]
)
def test_unknown_names_and_those_of_others_are_not_explained(name: str) -> None:
    scenario = opt_scenario()
    catalogue = catalogue_of(scenario)
    ring = DecisionRing("b")
    view = LoadTracker(catalogue, NOW).view(NOW)
    request = RoutingRequest(0, 1, 1, NOW, NOW)
    ring.note(
        setting(scenario, catalogue, Silent()), request, view, Decision(-1, -1), now=NOW, arrival=NOW, figures_at=NOW
    )
    assert ring.explain(name) is None
    assert ring.explain("b-1") is not None


def test_the_ring_forgets_what_is_too_long_ago() -> None:
    scenario = opt_scenario()
    catalogue = catalogue_of(scenario)
    ring = DecisionRing("b")
    view = LoadTracker(catalogue, NOW).view(NOW)
    request = RoutingRequest(0, 1, 1, NOW, NOW)
    numbers = [
        ring.note(
            setting(scenario, catalogue, Silent()), request, view, Decision(0, 0), now=NOW, arrival=NOW, figures_at=NOW
        )
        for _ in range(KEPT + 1)
    ]
    assert ring.explain(f"b-{numbers[0]}") is None
    assert ring.explain(f"b-{numbers[1]}") is not None
    assert ring.explain(f"b-{numbers[-1]}") is not None
