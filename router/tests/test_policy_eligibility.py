"""What holds for every policy: only eligible models on ready engines, and the base rule below an untrained scorer."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_scenarios import (
    BASE,
    eligible_models,
    learned_artifact,
    opt_scenario,
    paper_artifact,
    random_request,
    random_scenario,
    random_view,
)

from bes_api.scenario import Scenario
from bes_router.policy import candidates, placement, rules
from bes_router.policy.artifact import Artifact
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Catalogue, RoutingRequest
from bes_router.policy.policies import LearnedPolicy, PaperPolicy, RulePolicy
from bes_router.policy.tracker import LoadTracker

NOW = 100.0


def every_policy(scenario: Scenario, catalogue: Catalogue, random: Random) -> list[Policy]:
    """All rules with every placement and random parameters, a scorer, the paper's network."""
    models, tasks = len(scenario.models), len(scenario.tasks)
    gate = random.choice((0.0, 50.0, rules.NO_GATE))
    parameters = {
        rules.STATIC: [gate, float(random.randrange(models))],
        rules.DEADLINE_AWARE: [gate, random.uniform(-0.5, 0.9)],
        rules.PRICED: [gate]
        + [random.uniform(0.0, 1.0), random.uniform(0.01, 1.0), random.uniform(0, 3), random.uniform(0, 2)]
        + [random.uniform(0, 2)]
        + [random.choice((0.3, rules.NO_GATE)) for _ in range(models)],
        rules.THRESHOLD: [gate, *(random.uniform(0, 20) for _ in range(models * tasks))],
    }
    base = tuple(each + random.uniform(-0.1, 0.1) for each in BASE[:2]) + BASE[2:5]
    base += (*(random.uniform(-2, 1) for _ in range(6)), random.uniform(0, 1), 0.5, 0.3, 20.0)
    return [
        *(
            RulePolicy("rule", catalogue, kind, place, own)
            for kind, own in parameters.items()
            for place in (placement.LEAST_LOADED, placement.LEAST_FINISH, placement.BUNCHED)
        ),
        LearnedPolicy(catalogue, learned_artifact(scenario, random.randrange(99), scale=3.0, base=base)),
        PaperPolicy(catalogue, paper_artifact(scenario, random.randrange(99))),
    ]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_no_policy_ever_returns_an_ineligible_model_or_an_engine_that_is_not_ready(seed: int) -> None:
    random = Random(seed)
    scenario = random_scenario(random)
    catalogue = catalogue_of(scenario)
    view = random_view(catalogue, random, NOW)
    request = random_request(catalogue, random, NOW)
    allowed = eligible_models(catalogue, view, request)
    for policy in every_policy(scenario, catalogue, random):
        decision = policy.choose(request, view, NOW)
        if allowed:
            assert decision.model in allowed, policy
            assert view.ready[decision.engine], policy
            assert catalogue.engine_model[decision.engine] == decision.model, policy
        else:
            assert decision == (-1, -1), policy


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_all_zero_weights_reproduce_the_base_rule_exactly(seed: int) -> None:
    random = Random(seed)
    scenario = random_scenario(random)
    catalogue = catalogue_of(scenario)
    view = random_view(catalogue, random, NOW)._replace(guessed=0.0)
    request = random_request(catalogue, random, NOW)
    policy = LearnedPolicy(catalogue, learned_artifact(scenario, seed % 99, scale=0.0))
    rows = candidates.capacity(catalogue)
    engines, scores = [0] * rows, [0.0] * rows
    count = candidates.observe(
        catalogue, view, request, NOW, list(BASE), 1, engines, scores, [0.0] * (rows * candidates.WIDTH)
    )
    decision = policy.choose(request, view, NOW)
    assert decision.engine == (engines[int(np.argmax(scores[:count]))] if count else -1)
    assert policy.scores(count).tolist() == scores[:count]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_a_guessed_load_is_decided_by_the_weights_for_guessing_and_half_a_guess_by_the_middle(seed: int) -> None:
    random = Random(seed)
    scenario = random_scenario(random)
    catalogue = catalogue_of(scenario)
    view, request = random_view(catalogue, random, NOW), random_request(catalogue, random, NOW)
    given_ = learned_artifact(scenario, seed % 99, scale=2.0)
    seen, guessed = given_.passport.base_parameters, given_.passport.guessed_base_parameters
    policy = LearnedPolicy(catalogue, given_)
    for share in (0.5, 1.0, 0.0, random.random()):
        base = tuple(one + share * (other - one) for one, other in zip(seen, guessed, strict=True))
        mixed = {
            name: (1 - share) * given_.tensors[name][0] + share * given_.tensors[name][1] for name in ("linear", "out")
        }
        tensors = {**given_.tensors, **{name: np.stack([each, each]) for name, each in mixed.items()}}
        passport = given_.passport.model_copy(update={"base_parameters": base, "guessed_base_parameters": base})
        plain = LearnedPolicy(catalogue, Artifact(passport, tensors))
        weighed = [each.weigh(request, view._replace(guessed=share), NOW) for each in (policy, plain)]
        one, other = ([score for _, score in each] for each in weighed)  # engines that are alike may change places
        assert one == pytest.approx(other)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_candidates_are_few_distinct_ready_engines_with_finite_features(seed: int) -> None:
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    view = random_view(catalogue, random, NOW)
    request = random_request(catalogue, random, NOW)
    rows = candidates.capacity(catalogue)
    engines, scores, features = [-7] * rows, [0.0] * rows, [0.0] * (rows * candidates.WIDTH)
    count = candidates.observe(catalogue, view, request, NOW, list(BASE), 1, engines, scores, features)
    assert len(set(engines[:count])) == count
    assert engines[count:] == [-7] * (rows - count)
    assert {catalogue.engine_model[engine] for engine in engines[:count]} == eligible_models(catalogue, view, request)
    assert all(view.ready[engine] for engine in engines[:count])
    assert np.isfinite(scores[:count]).all()
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 1e3


@pytest.mark.parametrize("interference", [0.0, 1.0])
def test_every_replica_dead_means_no_model(interference: float) -> None:
    scenario = opt_scenario(interference)
    catalogue = catalogue_of(scenario)
    tracker = LoadTracker(catalogue, 0.0)
    for engine in range(12):
        tracker.set_ready(engine, False)
    view = tracker.view(NOW)
    request = RoutingRequest(0, 128, 16, NOW + 0.6, NOW + 0.6)
    for policy in every_policy(scenario, catalogue, Random(1)):
        assert policy.choose(request, view, NOW) == (-1, -1)


def test_a_prompt_without_tokens_is_decided_like_any_other() -> None:
    scenario = opt_scenario()
    catalogue = catalogue_of(scenario)
    view = LoadTracker(catalogue, 0.0).view(NOW)
    for policy in every_policy(scenario, catalogue, Random(1)):
        assert policy.choose(RoutingRequest(0, 0, 0, NOW + 0.6, NOW + 0.6), view, NOW).engine >= 0
