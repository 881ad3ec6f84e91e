"""From service to scenario: placement, ranges, limits, deadlines."""

import pytest
from hypothesis import given, settings
from service_samples import Data, changed, parsed, sample, services

from bes_api.errors import ScenarioError
from bes_api.presets import LATENCY_PRESETS
from bes_api.profile import ModelProfile
from bes_api.scenario import Batching, Measure, OnMiss, Scenario
from bes_api.scenario_of import scenario_of


def _scenario(data: Data) -> Scenario:
    return scenario_of(parsed(data), {})


def test_replicas_of_a_group_take_turns_on_its_gpus_and_others_have_their_own() -> None:
    small, large = _scenario(changed("spec", "models", 0, "replicas", to=3)).models
    assert small.placement == (0, 1, 0)
    assert large.placement == (2, 3, 4)


def test_a_second_group_begins_after_the_first() -> None:
    data = sample()
    data["spec"]["acceleratorGroups"].append({"name": "b", "class": "A100-80GB", "gpus": 2, "interferencePercent": 25})
    data["spec"]["models"][1]["accelerator"] = {"group": "b", "memoryPercent": 60}
    scenario = _scenario(data)
    assert scenario.models[1].placement == (2, 3, 2)
    assert [(gpu.group, gpu.interference) for gpu in scenario.gpus] == [("a", 1), ("a", 1), ("b", 0.25), ("b", 0.25)]


def test_a_number_of_replicas_is_the_range_from_one() -> None:
    small, large = _scenario(sample()).models
    assert (small.min_replicas, small.max_replicas) == (1, 2)
    assert (large.min_replicas, large.max_replicas) == (1, 3)
    assert _scenario(changed("spec", "models", 1, "replicaRange", "min", to=2)).models[1].min_replicas == 2


def test_a_hard_deadline_ends_where_it_begins_and_a_soft_one_later() -> None:
    chat, search = _scenario(sample()).tasks
    assert (chat.full_until_seconds, chat.zero_from_seconds) == (0.6, 2.0)
    assert (search.full_until_seconds, search.zero_from_seconds) == (0.6, 0.6)


def test_a_deadline_says_what_it_looks_at_and_what_becomes_of_a_miss() -> None:
    data = changed("spec", "tasks", 0, "deadline", "onMiss", to="Abort")
    data["spec"]["tasks"][0]["deadline"]["measure"] = "FirstToken"
    first, *others = scenario_of(parsed(data), {}).tasks
    assert (first.on_miss, first.measure) == (OnMiss.ABORT, Measure.FIRST_TOKEN)
    assert {(task.on_miss, task.measure) for task in others} <= {(OnMiss.FINISH, Measure.COMPLETION)}


def test_the_engine_says_how_batches_form_and_a_model_may_have_its_own() -> None:
    small, large = _scenario(changed("spec", "models", 0, "engine", to={"type": "TextGenerationInference"})).models
    assert (small.batching, small.prefill_token_budget) == (Batching.PREFILL_FIRST, 4096)
    assert (large.batching, large.prefill_token_budget) == (Batching.CHUNKED_PREFILL, 2048)


def test_the_preset_of_the_model_id_serves_where_no_profile_is_named() -> None:
    small = _scenario(sample()).models[0]
    preset = LATENCY_PRESETS["opt-125m"].profile
    assert (small.latency, small.kv_cache_tokens, small.max_batch_size) == (preset.latency, 100_000, 256)


def test_the_models_own_batch_size_goes_before_the_profiles() -> None:
    assert _scenario(changed("spec", "models", 0, "maxBatchSize", to=7)).models[0].max_batch_size == 7


def test_a_profile_beside_the_service_is_used_and_a_missing_one_is_named() -> None:
    data = changed("spec", "models", 0, "profile", to={"configMapRef": {"name": "mine"}})
    profile = ModelProfile(
        latency=LATENCY_PRESETS["opt-1.3b"].profile.latency, kv_cache_tokens=4096, max_batch_size=3, source="measured"
    )
    assert scenario_of(parsed(data), {"mine": profile}).models[0].max_batch_size == 3
    with pytest.raises(ScenarioError, match=r"'small'.*no ConfigMap 'mine'"):
        scenario_of(parsed(data), {})


def test_a_kv_cache_that_cannot_hold_one_full_context_is_refused() -> None:
    with pytest.raises(ScenarioError, match="lower contextTokens"):
        _scenario(changed("spec", "models", 0, "contextTokens", to=200_000))


def test_what_the_simulator_does_not_read_leaves_the_hash_alone() -> None:
    expected = _scenario(sample()).content_hash()
    for path, value in (
        (("spec", "load"), {"direct": {"interval": "5s"}}),
        (("spec", "router"), {"replicas": 4}),
        (("spec", "policy"), {"source": {"training": {"seeds": 1, "decisions": 5000}}}),
        (("metadata", "name"), "other"),
        (("spec", "tasks", 0, "quality"), {"large": "0.70", "small": "0.4"}),
    ):
        assert _scenario(changed(*path, to=value)).content_hash() == expected, path


def test_what_the_simulator_reads_changes_the_hash() -> None:
    hashes = {_scenario(sample()).content_hash()}
    changes: tuple[tuple[tuple[str | int, ...], object], ...] = (
        (("spec", "models", 0, "replicas"), 1),
        (("spec", "acceleratorGroups", 0, "interferencePercent"), 50),
        (("spec", "tasks", 1, "deadline", "hard", "within"), "700ms"),
        (("spec", "policy"), {"source": {"training": {"revision": 2}}}),
        (("spec", "router"), {"maxInFlight": 9}),
    )
    for path, value in changes:
        hashes.add(_scenario(changed(*path, to=value)).content_hash())
    assert len(hashes) == len(changes) + 1


@given(services())
@settings(deadline=None, max_examples=100)
def test_every_valid_service_has_a_scenario_in_which_each_replica_has_a_gpu_of_its_group(data: Data) -> None:
    service = parsed(data)
    scenario = scenario_of(service, {})
    own: list[int] = []
    for model, placed in zip(service.spec.models, scenario.models, strict=True):
        groups = {scenario.gpus[gpu].group for gpu in placed.placement}
        assert groups == {model.accelerator.group if model.accelerator else None}
        assert len(placed.placement) == model.max_replicas
        if model.accelerator is None:
            own.extend(placed.placement)
    assert len(set(own)) == len(own)
    assert len(scenario.gpus) == len(own) + sum(group.gpus for group in service.spec.accelerator_groups)
    assert Scenario.model_validate_json(scenario.model_dump_json()) == scenario
