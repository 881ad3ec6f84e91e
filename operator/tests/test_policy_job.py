"""The training Job as the API server takes it, and as little as its pod may do."""

import json

import kubernetes_validate
import pytest
from policy_samples import NAMESPACE, World

from bes_api.service.pod import PodPlace
from bes_api.training_order import ORDER, TrainingOrder
from bes_operator.labels import COMPONENT
from bes_operator.policy.training_job import job_name, job_of, order_of
from bes_operator.settings import Resources

VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
WORLD = World()
JOB = job_of(WORLD.seen(), WORLD.scenario.content_hash())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_old_and_new_releases_take_job_and_order() -> None:
    training = WORLD.service.spec.policy.source.training
    assert training is not None
    for manifest in (JOB, order_of(WORLD.seen(), WORLD.scenario, training)):
        for version in VERSIONS:
            kubernetes_validate.validate(json.loads(json.dumps(manifest)), version, strict=True)


def test_the_order_says_everything_that_the_job_needs_to_know() -> None:
    training = WORLD.service.spec.policy.source.training
    assert training is not None
    manifest = order_of(WORLD.seen(), WORLD.scenario, training)
    order = TrainingOrder.model_validate_json(manifest["data"][ORDER])
    assert (order.scenario, order.decisions, order.seeds) == (WORLD.scenario, training.decisions, training.seeds)
    assert order.artifact.namespace == NAMESPACE
    assert order.artifact.labels[COMPONENT] == "policy"
    assert len(order.artifact.prefix) + 17 <= 63


def test_the_pod_is_restricted_and_reaches_only_the_api_server() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] == 10001
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert POD["serviceAccountName"] == "demo-training"
    assert POD["enableServiceLinks"] is False
    written = {volume["name"] for volume in POD["volumes"] if "emptyDir" in volume}
    mounts = {each["name"]: each.get("readOnly", False) for each in CONTAINER["volumeMounts"]}
    assert {name for name, read_only in mounts.items() if not read_only} == written


def test_a_job_waits_for_its_turn_fails_after_two_attempts_and_never_expires_by_itself() -> None:
    spec = JOB["spec"]
    assert (spec["suspend"], spec["backoffLimit"], POD["restartPolicy"]) == (True, 1, "OnFailure")
    assert spec["activeDeadlineSeconds"] == 86_400
    assert "ttlSecondsAfterFinished" not in spec


@pytest.mark.parametrize(
    ("resources", "counted"),
    [
        (Resources(requests={"cpu": "1"}, limits={"memory": "1Gi"}), "requests.cpu"),
        (Resources(requests={"cpu": "1"}, limits={"cpu": "4"}), "limits.cpu"),
        (Resources(), "limits.cpu"),
    ],
)
def test_a_training_takes_a_thread_for_each_core_that_it_was_given(resources: Resources, counted: str) -> None:
    settings = WORLD.settings.model_copy(update={"training_resources": resources})
    job = job_of(World(settings=settings).seen(), WORLD.scenario.content_hash())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    threads = next(each for each in container["env"] if each["name"] == "THREADS")
    assert threads["valueFrom"]["resourceFieldRef"]["resource"] == counted


def test_a_training_runs_where_the_settings_say_and_stays_restricted_and_found_by_its_labels() -> None:
    place = {
        "labels": {"team": "research", COMPONENT: "router"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "nodeSelector": {"pool": "training"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "training", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
                }
            }
        },
        "priorityClassName": "batch",
        "runtimeClassName": "plain",
        "schedulerName": "volcano",
    }
    settings = WORLD.settings.model_copy(update={"training_pod": PodPlace.model_validate(place)})
    job = job_of(World(settings=settings).seen(), WORLD.scenario.content_hash())
    template, stated = job["spec"]["template"], {name: place[name] for name in place.keys() - {"labels", "annotations"}}
    assert template["spec"] == POD | stated
    own = JOB["spec"]["template"]["metadata"]["labels"]
    assert template["metadata"] == {"labels": {"team": "research"} | own, "annotations": place["annotations"]}
    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(json.dumps(job)), version, strict=True)


def test_names_fit_also_behind_the_longest_service() -> None:
    assert len(job_name("s" * 30, WORLD.scenario.content_hash())) <= 52
