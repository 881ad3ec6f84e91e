"""Plain and compiled load of every decision function agree on random inputs: what was trained is what routes."""

import inspect
import math
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_scenarios import BASE, learned_artifact, paper_artifact, random_request, random_scenario, random_view
from sim_runs import brain_of

from bes_router.policy import blend, candidates, formula, paper, placement, reward, rules, scorer
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import Catalogue, LoadView, RoutingRequest
from bes_router.policy.policies import LearnedPolicy, PaperPolicy
from bes_router.policy.tracker import new_tracker
from bes_training.simulation.compiled import compiled
from bes_training.simulation.simulate import arrays_of

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

NOW = 50.0
PLACEMENTS = (placement.LEAST_LOADED, placement.LEAST_FINISH, placement.BUNCHED)
WELL_PARAMETERS = (*BASE[:5], -3.0, 0.5, 0.5, 0.2, 0.3, 0.4, 0.5, 0.1, 0.1, 20.0)
seeds = given(st.integers(0, 2**32))
examples = settings(max_examples=100, deadline=None)


def twin(module: Any) -> Any:
    return compiled(module.__name__)


def arrays(values: Any) -> Any:
    """A named tuple of lists and numbers with arrays for lists."""
    return values._make(np.array(each) if isinstance(each, list) else each for each in values)


class Case(NamedTuple):
    """One random decision, as lists and as arrays."""

    catalogue: Catalogue
    view: LoadView
    request: RoutingRequest
    catalogue_arrays: Catalogue
    view_arrays: LoadView
    random: Random


def case(seed: int) -> Case:
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    view = random_view(catalogue, random, NOW)
    request = random_request(catalogue, random, NOW)
    as_arrays = arrays(view)
    as_arrays = as_arrays._replace(load=np.array(view.load, dtype=np.float64))
    return Case(catalogue, view, request, arrays_of(catalogue), _float_arrays(as_arrays), random)


def _float_arrays(view: LoadView) -> LoadView:
    """Sums over nothing are whole numbers in Python."""
    floats = ("load", "model_load", "gpu_load", "gpu_busy", "sent_engine", "sent_gpu")
    return view._replace(**{name: np.asarray(getattr(view, name), dtype=np.float64) for name in floats})


def test_every_public_function_of_the_plain_modules_has_a_compiled_twin() -> None:
    for module in (formula, reward, blend, placement, rules, candidates, scorer, paper):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                assert hasattr(getattr(twin(module), name), "py_func"), f"{module.__name__}.{name} is not compiled"


def test_types_are_one_and_the_same_in_both_loads() -> None:
    assert twin(blend).Tracker is blend.Tracker
    assert twin(rules).Decision is rules.Decision


@seeds
@examples
def test_formula(seed: int) -> None:
    each = case(seed)
    random = each.random
    for model in range(len(each.catalogue.context)):
        tokens, batch, context = random.randint(0, 3000), random.randint(1, 80), random.randint(0, 50_000)
        prompt, output, load = (
            random.randint(1, 3000),
            random.randint(1, 200),
            random.choice((0.0, random.uniform(0, 90))),
        )
        for name, given_ in (
            ("prefill_seconds", (tokens,)),
            ("decode_seconds", (float(batch), float(context))),
            ("mixed_seconds", (tokens, batch, context)),
            ("idle_latency", (prompt, output)),
            ("predicted_finish", (load, prompt, output)),
        ):
            plainly = getattr(formula, name)(each.catalogue, model, *given_)
            assert getattr(twin(formula), name)(each.catalogue_arrays, model, *given_) == pytest.approx(
                plainly, rel=1e-12
            ), name


@seeds
@examples
def test_reward_and_expected_share(seed: int) -> None:
    random = Random(seed)
    full = random.uniform(0.01, 2)
    zero = full + random.choice((0.0, random.uniform(0, 2)))
    for elapsed in (full, zero, random.uniform(0, 3)):
        assert twin(reward).reward_share(elapsed, full, zero) == pytest.approx(
            reward.reward_share(elapsed, full, zero), abs=1e-12
        )
        share = (elapsed, full - random.uniform(0, 3), zero, random.uniform(-0.2, 0.8), random.uniform(0.01, 1))
        assert twin(rules).expected_share(*share) == pytest.approx(rules.expected_share(*share), abs=1e-12)


@seeds
@examples
def test_placements(seed: int) -> None:
    each = case(seed)
    lists, arrayed = (each.catalogue, each.view), (each.catalogue_arrays, each.view_arrays)
    for model in range(len(each.catalogue.context)):
        assert twin(placement).least_loaded(*arrayed, model) == placement.least_loaded(*lists, model)
        assert twin(placement).least_finish(*arrayed, model, 128, 16) == placement.least_finish(*lists, model, 128, 16)
        assert twin(placement).bunched(*arrayed, model, NOW) == placement.bunched(*lists, model, NOW)


@seeds
@examples
def test_rules(seed: int) -> None:
    each = case(seed)
    models, tasks, random = len(each.catalogue.context), len(each.catalogue.full_until), each.random
    gate = random.choice((0.0, 100.0, 1e9))
    for kind, own in (
        (rules.STATIC, [float(random.randrange(models))]),
        (rules.DEADLINE_AWARE, [random.uniform(-0.5, 0.9)]),
        (
            rules.PRICED,
            [0.2, random.uniform(0.01, 1), random.uniform(0, 3), 1.0, 0.5] + [random.choice((0.3, 1e9))] * models,
        ),
        (rules.THRESHOLD, [random.uniform(0, 20) for _ in range(models * tasks)]),
    ):
        parameters = [gate, *own]
        for engine in range(len(each.catalogue.engine_model)):
            plainly = rules.rule_score(each.catalogue, each.view, each.request, NOW, engine, kind, parameters)
            assert twin(rules).rule_score(
                each.catalogue_arrays, each.view_arrays, each.request, NOW, engine, kind, np.array(parameters)
            ) == pytest.approx(plainly, rel=1e-9, abs=1e-9)
        for place in PLACEMENTS:
            chosen = rules.choose_by_rule(each.catalogue, each.view, each.request, NOW, kind, place, parameters)
            assert chosen == twin(rules).choose_by_rule(
                each.catalogue_arrays, each.view_arrays, each.request, NOW, kind, place, np.array(parameters)
            )


def observed(
    module: Any, each: Case, catalogue: Catalogue, view: LoadView, base: Sequence[float] = WELL_PARAMETERS
) -> tuple[int, list[int], Any, Any]:
    rows = candidates.capacity(each.catalogue)
    engines, scores = np.zeros(rows, dtype=np.int64), np.zeros(rows)
    features = np.zeros(rows * candidates.WIDTH)
    count = module.observe(catalogue, view, each.request, NOW, np.array(base), 1, engines, scores, features)
    return count, engines[:count].tolist(), scores[:count], features[: count * candidates.WIDTH]


@seeds
@examples
def test_candidates_and_their_features(seed: int) -> None:
    each = case(seed)
    count, engines, scores, features = observed(candidates, each, each.catalogue, each.view)
    compiled_count, compiled_engines, compiled_scores, compiled_features = observed(
        twin(candidates), each, each.catalogue_arrays, each.view_arrays
    )
    assert (compiled_count, compiled_engines) == (count, engines)
    np.testing.assert_allclose(compiled_scores, scores, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(compiled_features, features, rtol=1e-9, atol=1e-9)


@seeds
@examples
def test_the_scorer_in_numpy_plainly_and_compiled(seed: int) -> None:
    """`LearnedPolicy.scores` is what routes, `add_learned` compiled what was trained."""
    each = case(seed)
    scenario = random_scenario(Random(seed))
    artifact = learned_artifact(scenario, seed % 1000, units=1 + seed % 20, scale=2.0, base=WELL_PARAMETERS)
    policy = LearnedPolicy(each.catalogue, artifact)
    decision = policy.choose(each.request, each.view, NOW)
    brain = brain_of(each.catalogue_arrays, artifact)
    for module in (scorer, twin(scorer)):
        for ends, mixed in zip(brain.ends, (brain.parameters, brain.linear, brain.out), strict=True):
            module.mix(ends, each.view.guessed, mixed)
        count, engines, scores, features = observed(candidates, each, each.catalogue, each.view, brain.parameters)
        totals = scores.copy()
        module.add_learned(features, count, brain.linear, brain.hidden, brain.bias, brain.out, totals, brain.units)
        np.testing.assert_allclose(policy.scores(count), totals, rtol=1e-9, atol=1e-9)
        if count:
            assert decision.engine == engines[module.best_of(totals, count)]


@seeds
@examples
def test_the_papers_observation_and_network_in_numpy_plainly_and_compiled(seed: int) -> None:
    each = case(seed)
    artifact = paper_artifact(random_scenario(Random(seed)), seed % 1000, units=1 + seed % 20)
    policy = PaperPolicy(each.catalogue, artifact)
    if policy.choose(each.request, each.view, NOW).engine < 0:
        return
    brain = brain_of(each.catalogue_arrays, artifact)
    for module, catalogue, view in (
        (paper, each.catalogue, each.view),
        (twin(paper), each.catalogue_arrays, each.view_arrays),
    ):
        module.observe_paper(catalogue, view, each.request, brain.inputs)
        layers, inputs = brain.layers, brain.inputs
        for number, out in enumerate((brain.first, brain.second, brain.values)):
            module.dense(inputs, layers[2 * number], layers[2 * number + 1], out, number < 2)
            inputs = out
        np.testing.assert_allclose(policy.values(), brain.values, rtol=1e-9, atol=1e-9)


@seeds
@examples
def test_the_blended_view_through_any_events(seed: int) -> None:
    """The same events to a tracker of lists and to one of arrays; everything in them agrees after each."""
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    as_arrays = arrays_of(catalogue)
    lists = new_tracker(catalogue, 0.0, share=random.choice((1.0, 0.3)))
    arrayed = arrays(lists)
    arrayed = arrayed._replace(
        **{
            name: np.asarray(getattr(lists, name), dtype=np.float64)
            for name in (
                "own",
                "own_model",
                "ended",
                "others",
                "figure_at",
                "load",
                "model_load",
                "gpu_load",
                "gpu_busy",
            )
        }
    )
    engines = len(catalogue.engine_model)
    sent: list[int] = []
    now = 0.0
    for _ in range(40):
        now += random.expovariate(20.0)
        event: tuple[Any, ...]
        match random.randrange(6):
            case 0:
                event = ("arrived", now)
            case 1 if sent:
                event = ("finished", sent.pop(random.randrange(len(sent))))
            case 2:
                event = ("set_ready", random.randrange(engines), random.randrange(2))
            case 3:
                figures = [random.choice((-1.0, 0.0, 9.0, float(random.randrange(30)))) for _ in range(engines)]
                then = [min(own, random.randrange(4)) for own in lists.own]
                at = [now - random.choice((0.0, 0.1, 5.0)) for _ in range(engines)]
                served = random.choice(((-1.0, -1.0), (3.0, 12.0), (40.0, 400.0), (390.0, 400.0)))
                event = ("snapshot", figures, then, at, *served)
            case 4:
                event = ("refresh", now)
            case _:
                sent.append(random.randrange(engines))
                event = ("sent", sent[-1], now)
        name, *given_ = event
        with_catalogue = name not in ("arrived", "snapshot")
        getattr(blend, name)(*([catalogue] if with_catalogue else []), lists, *given_)
        given_ = [np.array(each, dtype=np.float64) if isinstance(each, list) else each for each in given_]
        getattr(twin(blend), name)(*([as_arrays] if with_catalogue else []), arrayed, *given_)
        for field in blend.Tracker._fields:
            np.testing.assert_allclose(
                getattr(arrayed, field), getattr(lists, field), rtol=1e-9, atol=1e-9, err_msg=field
            )
    gap = math.sqrt(random.random())
    assert twin(blend).decayed_rate(9.0, gap, 0.5) == pytest.approx(blend.decayed_rate(9.0, gap, 0.5), rel=1e-12)
