"""The way of a policy as a whole: from a service without one to one that routes, and everything that may go wrong."""

from datetime import timedelta
from typing import Any

import pytest
from policy_samples import COMPARATOR, NAMESPACE, World, artifact, report

from bes_api.config_map import WEIGHTS, data_digest
from bes_api.router_config import DeadlineAwarePolicy, DeliveredPolicy, Placement, PricedPolicy, StaticPolicy
from bes_api.service_status import ConditionStatus, Reason, TrainingState
from bes_operator.manifest import Key
from bes_operator.policy.ledger import LEDGER
from bes_operator.policy.plan import plan


def trained(world: World, gain: float = 0.03, seed: float = 0.5) -> str:
    """Run a training of the present scenario to its end; the artifact's digest."""
    world.settle()
    digest = world.train(artifact(world.scenario, gain, seed))
    world.settle()
    return digest


def promoted(world: World, seed: float = 0.5) -> str:
    """The same, through the shadow until it routes."""
    digest = trained(world, seed=seed)
    world.decisions = 600
    world.later(minutes=6).settle()
    return digest


def shape(**policy: Any) -> Any:
    def change(spec: dict[str, Any]) -> None:
        spec["policy"] |= policy

    return change


def revise(revision: int, **training: Any) -> Any:
    return shape(source={"training": {"revision": revision, **training}})


def job_key(world: World) -> Key:
    return Key("Job", NAMESPACE, world.job()["metadata"]["name"])


def test_a_policy_goes_from_training_through_gate_and_shadow_to_routing() -> None:
    world = World()
    first = world.turn()
    assert first.part.configured == DeliveredPolicy()
    assert not first.part.active
    assert (first.ready, first.reason) == (ConditionStatus.FALSE, Reason.QUEUED)
    found = world.settle()
    assert (found.reason, world.job()["spec"]["suspend"]) == (Reason.TRAINING, False)
    digest = world.train(artifact(world.scenario))
    found = world.settle()
    assert (found.reason, data_digest(found.part.candidate)) == (Reason.IN_SHADOW, digest)
    assert not found.part.active
    found = world.later(minutes=4).settle()
    assert found.reason is Reason.IN_SHADOW
    world.decisions = 600
    found = world.later(minutes=2).settle()
    assert data_digest(found.part.active) == digest
    assert not found.part.candidate
    assert (found.ready, found.reason) == (ConditionStatus.TRUE, Reason.POLICY_ACTIVE)
    active = found.status.active
    assert active is not None
    assert (active.name, active.digest, active.rule) == ("Learned", digest, COMPARATOR)
    assert str(active.gain) == "0.0300"
    assert world.told() == ["TrainingStarted", "GatePassed", "PolicyActivated"]


def test_the_service_owns_the_artifact_before_its_job_goes_and_the_artifact_stays() -> None:
    world = World()
    digest = promoted(world)
    key = job_key(world)
    assert key in world.objects
    found = world.later(minutes=61).settle()
    assert key not in world.objects
    assert Key("ConfigMap", NAMESPACE, key.name) not in world.objects
    assert data_digest(world.files(f"policy-{digest.removeprefix('sha256:')[:16]}")) == digest
    assert found.reason is Reason.POLICY_ACTIVE
    assert world.later(days=3).settle().reason is Reason.POLICY_ACTIVE
    assert not any(key.kind == "Job" for key in world.objects)


def test_a_candidate_no_better_than_the_rule_ends_with_the_tuned_rule_routing() -> None:
    world = World()
    trained(world, gain=-0.02)
    found = world.settle()
    tuned = PricedPolicy(parameters=(1.0, 2.0, 3.0), placement=Placement.BUNCHED)
    assert found.part.configured == tuned
    assert not found.part.active
    assert not found.part.candidate
    assert (found.ready, found.reason) == (ConditionStatus.TRUE, Reason.RULE_IS_ENOUGH)
    assert found.status.active is not None
    assert found.status.active.name == COMPARATOR
    assert "RuleIsEnough" in world.told()


def test_a_wider_margin_brings_a_loser_into_shadow_while_its_rule_goes_on() -> None:
    world = World()
    said = report(world.scenario, [0.042 if index % 2 else -0.038 for index in range(37)])
    world.settle()
    digest = world.train(artifact(world.scenario, said=said))
    assert world.settle().reason is Reason.RULE_IS_ENOUGH
    world.change(shape(promotion={"margin": "0.05"}))
    found = world.settle()
    assert isinstance(found.part.configured, PricedPolicy)
    assert data_digest(found.part.candidate) == digest
    found = world.later(minutes=6).settle()
    assert (found.part.configured, data_digest(found.part.active)) == (DeliveredPolicy(), digest)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (lambda scenario: artifact(scenario) | {WEIGHTS: b"x"}, "damaged"),
        (lambda scenario: artifact(scenario, scenario_hash="sha256:" + "1" * 64), "another scenario"),
        (lambda scenario: artifact(scenario) | {"big": bytes(950 * 1024)}, "may have"),
        (lambda scenario: artifact(scenario, said=report(scenario, [0.03] * 29)), "30 or more"),
        (lambda scenario: artifact(scenario, said=report(scenario, [0.03] * 37, comparator="Priced")), "best rule"),
        (lambda scenario: {name: each for name, each in artifact(scenario).items() if "report" not in name}, "report"),
    ],
)
def test_an_artifact_that_cannot_be_used_is_refused_and_what_routed_goes_on(files: Any, says: str) -> None:
    world = World()
    old = promoted(world)
    world.change(revise(2))
    world.settle()
    refused = world.train(files(world.scenario))
    found = world.settle()
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.ARTIFACT_REFUSED)
    assert says in found.message
    assert data_digest(found.part.active) == old
    assert [each.digest for each in found.status.history] == [refused]
    assert world.told().count("ArtifactRefused") == 1
    assert world.later(hours=2).settle().reason is Reason.ARTIFACT_REFUSED
    assert not any(key.kind == "Job" for key in world.objects)


def test_what_a_pod_of_somebody_else_says_is_not_believed() -> None:
    world = World()
    world.settle()
    digest = world.train(artifact(world.scenario), said="nothing")
    world.end_pod(world.job(), digest, owner="another-uid")
    world.end_pod(world.job(), digest, code=1, phase="Failed")
    found = world.settle()
    assert found.reason is Reason.TRAINING
    found = world.later(minutes=2).settle()
    assert found.reason is Reason.ARTIFACT_LOST
    assert not found.part.candidate


def test_an_artifact_under_another_digest_than_was_said_is_nobodys() -> None:
    world = World()
    world.settle()
    world.train(artifact(world.scenario), said="sha256:" + "a" * 64)
    found = world.later(minutes=2).settle()
    assert (found.reason, found.part.candidate) == (Reason.ARTIFACT_LOST, {})


def test_failed_twice_is_said_and_nothing_repeats_until_the_revision_changes() -> None:
    world = World()
    world.settle()
    world.fail("model 'opt-6.7b' alone misses more than 1 % of the deadlines even when idle")
    found = world.settle()
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.TRAINING_FAILED)
    assert "misses more than 1 %" in found.message
    assert "raise training.revision" in found.message
    name = job_key(world).name
    for _ in range(3):
        assert world.later(days=1).settle().status.training.state is TrainingState.FAILED  # type: ignore[union-attr]
    world.delete(Key("Job", NAMESPACE, name))
    assert world.settle().reason is Reason.TRAINING_FAILED
    world.change(revise(2))
    assert world.settle().reason is Reason.TRAINING
    assert job_key(world).name != name


def test_a_running_training_whose_job_was_deleted_is_lost_and_not_repeated() -> None:
    world = World()
    world.settle()
    world.delete(job_key(world))
    found = world.settle()
    assert found.reason is Reason.ARTIFACT_LOST
    assert not any(key.kind == "Job" for key in world.objects)


def test_a_waiting_training_whose_job_was_deleted_waits_again() -> None:
    world = World()
    other = {"metadata": {"uid": "a", "creationTimestamp": "2020"}, "spec": {"suspend": False}}
    world.others = [other, other]
    assert world.settle().reason is Reason.QUEUED
    world.delete(job_key(world))
    assert world.settle().reason is Reason.QUEUED
    assert job_key(world) in world.objects


def test_at_most_two_trainings_run_and_the_queue_is_in_order() -> None:
    world = World()
    running = {"metadata": {"uid": "a", "creationTimestamp": "2020"}, "spec": {"suspend": False}}
    waiting = {"metadata": {"uid": "b", "creationTimestamp": "2021"}, "spec": {"suspend": True}}
    done = {**running, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    world.others = [running, waiting, done]
    found = world.settle()
    assert world.job()["spec"]["suspend"] is True
    assert found.status.training is not None
    assert found.status.training.position == 2
    assert found.wait_seconds is not None
    assert found.wait_seconds <= 15
    world.others = [running, {**waiting, "spec": {"suspend": False}}, done]
    assert world.settle().status.training.position == 1  # type: ignore[union-attr]
    world.others = [running, done]
    assert world.settle().reason is Reason.TRAINING


def test_a_changed_service_cancels_the_training_of_the_old_scenario_and_keeps_the_old_scorer() -> None:
    world = World()
    old = promoted(world)
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=99))
    found = world.settle()
    assert found.reason is Reason.TRAINING
    assert data_digest(found.part.active) == old
    first = job_key(world)
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=98))
    world.settle()
    assert first not in world.objects
    assert "TrainingCancelled" in world.told()
    new = world.train(artifact(world.scenario, seed=0.7))
    world.settle()
    found = world.later(minutes=6).settle()
    assert data_digest(found.part.active) == new
    assert [each.digest for each in found.status.history] == [old]


def test_a_dqn_goes_on_only_while_models_and_tasks_are_the_same() -> None:
    world = World()
    digest = promoted(world)
    (record,) = plan(world.seen()).steps[0].manifest["data"].values()
    stored = world.objects[Key("ConfigMap", NAMESPACE, "demo-policies")]
    stored["data"][LEDGER] = record.replace('"kind": "Learned"', '"kind": "Paper"')
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=99))
    assert data_digest(world.settle().part.active) == digest
    world.change(lambda spec: spec["tasks"][0].update(name="sciq") or spec.update(defaultTask="sciq"))
    found = world.settle()
    assert found.part.active == {}
    assert "PolicyDeactivated" in world.told()


def test_coming_back_to_an_earlier_scenario_takes_its_policy_without_another_training() -> None:
    world = World()
    first = promoted(world)
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=99))
    promoted(world, seed=0.7)
    world.later(hours=2).settle()
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=128))
    found = world.settle()
    assert data_digest(found.part.active) == first
    assert not any(key.kind == "Job" for key in world.objects)


def test_the_history_keeps_as_many_artifacts_as_the_resource_says() -> None:
    world = World().change(shape(historyLimit=1))
    digests = []
    for revision in (1, 2, 3, 4):
        world.change(revise(revision))
        digests.append(promoted(world, seed=revision / 10))
        world.later(hours=2).settle()
    held = [key.name for key in world.objects if key.name.startswith("demo-policy-")]
    assert sorted(held) == sorted(f"demo-policy-{each.removeprefix('sha256:')[:16]}" for each in digests[-2:])


def test_a_losing_newer_candidate_leaves_the_policy_that_beat_the_rule_on_the_same_service() -> None:
    world = World()
    first = promoted(world)
    world.change(revise(2))
    trained(world, gain=-0.02, seed=0.9)
    found = world.settle()
    assert data_digest(found.part.active) == first
    assert (found.ready, found.reason) == (ConditionStatus.TRUE, Reason.POLICY_ACTIVE)
    assert "newer candidate" in found.message


def test_the_rule_that_a_changed_service_is_content_with_routes_instead_of_the_old_policy() -> None:
    world = World()
    promoted(world)
    world.change(lambda spec: spec["tasks"][0]["tokens"].update(prompt=99))
    trained(world, gain=-0.02, seed=0.9)
    found = world.settle()
    assert isinstance(found.part.configured, PricedPolicy)
    assert found.reason is Reason.RULE_IS_ENOUGH


def test_a_pin_brings_an_earlier_policy_back_and_its_removal_the_newest() -> None:
    world = World()
    first = promoted(world)
    world.change(revise(2))
    second = promoted(world, seed=0.7)
    world.change(shape(pinnedDigest=first))
    found = world.settle()
    assert data_digest(found.part.active) == first
    assert found.reason is Reason.POLICY_ACTIVE
    world.change(shape(pinnedDigest=None))
    assert data_digest(world.settle().part.active) == second


def test_a_pin_of_something_unknown_or_refused_changes_nothing() -> None:
    world = World()
    digest = promoted(world)
    world.change(shape(pinnedDigest="sha256:" + "e" * 64))
    found = world.settle()
    assert data_digest(found.part.active) == digest
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.PIN_NOT_FOUND)


def test_manual_promotion_waits_in_shadow_until_the_digest_is_pinned() -> None:
    world = World().change(shape(promotion={"mode": "Manual"}))
    digest = trained(world)
    world.decisions = 5000
    found = world.later(hours=3).settle()
    assert (found.reason, data_digest(found.part.candidate)) == (Reason.AWAITING_PIN, digest)
    assert digest in found.message
    world.change(shape(pinnedDigest=digest))
    found = world.settle()
    assert data_digest(found.part.active) == digest
    world.change(shape(pinnedDigest=None))
    assert data_digest(world.settle().part.active) == digest


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"failures": 1, "last_failure": "it chose engine 7"}, "it chose engine 7"),
        ({"slow": 90}, "longer than 1000 us"),
    ],
)
def test_a_candidate_that_misbehaves_in_shadow_is_dropped(trouble: dict[str, Any], says: str) -> None:
    world = World()
    trained(world)
    world.decisions, world.trouble = 400, trouble
    found = world.later(minutes=1).settle()
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.CANDIDATE_LOST)
    assert says in found.message
    assert found.part.candidate == {}
    assert "ShadowFailed" in world.told()


def test_a_candidate_that_no_router_can_use_is_dropped_once_every_configuration_has_had_time_to_come() -> None:
    world = World()
    world.trouble = {"problem": "features are not candidate/2's"}
    trained(world)
    assert world.later(minutes=4).settle().reason is Reason.IN_SHADOW
    found = world.later(minutes=4).settle()
    assert found.reason is Reason.CANDIDATE_LOST
    assert "candidate/2" in found.message


def test_a_shadow_without_traffic_ends_in_time_and_one_with_little_waits_for_decisions_at_most_a_day() -> None:
    world = World()
    trained(world)
    assert world.later(minutes=6).settle().reason is Reason.POLICY_ACTIVE
    world = World()
    trained(world)
    world.decisions = 10
    assert world.later(minutes=60).settle().reason is Reason.IN_SHADOW
    assert world.later(hours=24).settle().reason is Reason.POLICY_ACTIVE


def test_the_shadow_begins_when_every_router_has_the_candidate() -> None:
    world = World()
    world.silent = True
    trained(world)
    assert world.later(hours=1).settle().reason is Reason.IN_SHADOW
    world.silent = False
    assert world.settle().reason is Reason.IN_SHADOW
    assert world.later(minutes=6).settle().reason is Reason.POLICY_ACTIVE


def test_a_setting_shortens_the_shadow() -> None:
    world = World()
    world.settings = world.settings.model_copy(update={"shadow_seconds": 2.0})
    trained(world)
    assert world.later(seconds=3).settle().reason is Reason.POLICY_ACTIVE


def test_a_policy_counts_as_set_only_when_every_ready_router_reports_it() -> None:
    world = World()
    trained(world)
    world.later(minutes=6)
    found = world.turn()
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.DELIVERING)
    found = world.settle()
    assert found.reason is Reason.POLICY_ACTIVE
    world.silent = True  # new routers that have not been asked yet
    assert world.settle().reason is Reason.POLICY_ACTIVE


def test_an_imported_artifact_goes_through_the_same_gate_and_shadow() -> None:
    world = World()
    files = artifact(world.scenario)
    digest = data_digest(files)
    world.change(shape(source={"imported": {"configMapName": "mine", "digest": digest}}))
    found = world.settle()
    assert (found.reason, "no ConfigMap" in found.message) == (Reason.ARTIFACT_REFUSED, True)
    world.put(world.config_map("mine", artifact(world.scenario, seed=0.1), owner="nobody"))
    assert "another artifact" in world.settle().message
    world.delete(Key("ConfigMap", NAMESPACE, "mine"))
    world.put(world.config_map("mine", files, owner="nobody"))
    found = world.settle()
    assert (found.reason, data_digest(found.part.candidate)) == (Reason.IN_SHADOW, digest)
    found = world.later(minutes=6).settle()
    assert data_digest(found.part.active) == digest
    owners = world.objects[Key("ConfigMap", NAMESPACE, "mine")]["metadata"]["ownerReferences"]
    assert [each["uid"] for each in owners] == ["nobody"]
    assert not any(key.kind == "Job" for key in world.objects)


@pytest.mark.parametrize("name", ["demo-active", "demo-candidate", "artifact", "demo-policies"])
def test_a_deleted_config_map_heals_without_another_training(name: str) -> None:
    world = World()
    digest = promoted(world)
    since = world.last.status.active.since  # type: ignore[union-attr]
    artifact_name = f"demo-policy-{digest.removeprefix('sha256:')[:16]}"
    world.later(hours=2).settle()
    world.delete(Key("ConfigMap", NAMESPACE, artifact_name if name == "artifact" else name))
    found = world.settle()
    assert data_digest(found.part.active) == digest
    assert (found.reason, found.status.active.since) == (Reason.POLICY_ACTIVE, since)  # type: ignore[union-attr]
    assert Key("ConfigMap", NAMESPACE, artifact_name) in world.objects
    assert not any(key.kind == "Job" for key in world.objects)


def test_an_artifact_that_is_nowhere_any_more_means_the_fallback_and_says_so() -> None:
    world = World()
    digest = promoted(world)
    world.later(hours=2).settle()
    for name in (f"demo-policy-{digest.removeprefix('sha256:')[:16]}", "demo-active"):
        world.delete(Key("ConfigMap", NAMESPACE, name))
    found = world.settle()
    assert (found.ready, found.reason) == (ConditionStatus.FALSE, Reason.ARTIFACT_LOST)
    assert (found.part.configured, found.part.active) == (DeliveredPolicy(), {})
    assert not any(key.kind == "Job" for key in world.objects)


def test_an_unreadable_profile_stops_nothing() -> None:
    world = World()
    digest = promoted(world)
    world.change(revise(2))
    world.settle()
    world.blind = True
    found = world.settle()
    assert data_digest(found.part.active) == digest
    assert any(key.kind == "Job" for key in world.objects)


def test_rules_need_no_training() -> None:
    world = World().change(shape(type="DeadlineAware"))
    found = world.settle()
    assert (found.part.configured, found.steps) == (DeadlineAwarePolicy(), ())
    assert (found.ready, found.reason) == (ConditionStatus.TRUE, Reason.RULE_ASKED)
    world.change(shape(type="Static", static={"model": "opt-125m"}))
    assert world.settle().part.configured == StaticPolicy(model="opt-125m")


def test_asking_for_a_rule_and_back_keeps_the_policy() -> None:
    world = World()
    digest = promoted(world)
    world.change(shape(type="Priced"))
    assert world.settle().part.configured == PricedPolicy()
    world.change(shape(type="Learned"))
    assert data_digest(world.settle().part.active) == digest


def test_times_in_the_status_do_not_move_by_themselves() -> None:
    world = World()
    promoted(world)
    before = world.settle().status
    world.now += timedelta(minutes=1)
    assert world.settle().status == before
