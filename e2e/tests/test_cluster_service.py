"""The chart on a real cluster: a service that serves, heals under traffic, and whose Job trains what then decides."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from native_cluster import cluster, images
from rich.console import Console

from bes_api.conditions import Reason
from bes_api.config_map import data_digest, files_in
from bes_lab.cluster.demo import SERVICE, Demo
from bes_lab.cluster.healing import carry_out
from bes_lab.cluster.installation import NAMESPACE, Installation
from bes_lab.cluster.native import Native
from bes_lab.cluster.phases import Phase, phases
from bes_lab.cluster.stage import HEAL_SECONDS, Stage

__all__ = ["cluster", "images"]
pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
HEALED = ("router-rollout", "by-hand", "configuration", "rights", "router-scale", "leader", "api-server", "etcd")
"""A sample: `make cluster-healing` is the whole."""


@pytest.fixture(scope="module")
def stage(
    cluster: Native,
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Stage:
    assert set(images) >= {"operator", "router", "engine", "training", "prometheus"}
    on = Installation(ROOT / SERVICE, cluster, lambda _: None)
    first = on.install()
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stderr.write(f"\nfirst request served {first:.1f} s after helm install began\n")
    stage = Stage(on, tmp_path_factory.mktemp("healing"))
    stage.patch('{"spec": {"policy": {"type": "DeadlineAware"}}}')
    on.until("everything is as desired", stage.whole, HEAL_SECONDS)
    return stage


def test_the_service_is_ready_and_says_where_it_answers(stage: Stage) -> None:
    told = stage.on.read("bes", stage.name)["status"]
    conditions = {each["type"]: each["status"] for each in told["conditions"]}
    assert conditions["Available"] == conditions["Ready"] == "True"
    assert told["endpoint"] == f"http://{stage.name}-router.{NAMESPACE}.svc:8080"
    assert {each["name"]: each["ready"] for each in told["models"]} == {
        model.name: model.max_replicas for model in stage.on.scenario.models
    }


@pytest.mark.parametrize("phase", [each for each in phases() if each.name in HEALED], ids=lambda each: each.name)
def test_clients_see_nothing_of_it(stage: Stage, phase: Phase) -> None:
    outcome = carry_out(stage, phase, seed=1)
    assert outcome.answered
    assert outcome.others == 0, outcome.tally.notes


def test_a_deleted_service_of_the_routers_is_made_again_and_serves(stage: Stage) -> None:
    old = stage.uid("service", f"{stage.name}-router")
    carry_out(stage, next(each for each in phases() if each.name == "router-service"), seed=2)
    assert stage.uid("service", f"{stage.name}-router") not in {"", old}
    assert stage.on.serves()


def test_a_removed_task_and_model_go_and_come_back(stage: Stage) -> None:
    stored = stage.on.read("bes", stage.name)["spec"]
    gone = stored["models"][0]["name"]
    models = [model for model in stored["models"] if model["name"] != gone]
    tasks = [
        task | {"quality": {name: share for name, share in task["quality"].items() if name != gone}}
        for task in stored["tasks"]
    ]
    deployment = stage.deployment(gone)
    stage.patch(json.dumps({"spec": {"models": models, "tasks": tasks}}))
    stage.on.until("the model is gone", lambda: not stage.uid("deployment", deployment), HEAL_SECONDS)
    stage.on.until("the rest is whole", stage.whole, HEAL_SECONDS)
    assert stage.on.serves()
    stage.patch(json.dumps({"spec": {"models": stored["models"], "tasks": stored["tasks"]}}))
    stage.on.until("it is back", lambda: bool(stage.uid("deployment", deployment)) and stage.whole(), HEAL_SECONDS)


def test_a_job_trains_what_then_decides(stage: Stage, tmp_path: Path) -> None:
    stage.patch('{"spec": {"policy": {"type": "Learned"}}}')
    judged = Demo(stage.on, tmp_path, Console(stderr=True)).train()
    active = stage.on.read("bes", stage.name)["status"]["policy"]["active"]
    # Which of the two a short training comes to depends on the machine's arithmetic; both took a Job, a digest, a gate.
    assert judged in {Reason.POLICY_ACTIVE, Reason.RULE_IS_ENOUGH}
    if judged == Reason.POLICY_ACTIVE:
        assert data_digest(files_in(stage.on.read("configmap", f"{stage.name}-active"))) == active["digest"]
    assert stage.on.decided_by() == active["name"]
