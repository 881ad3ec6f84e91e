"""The real operator process against a real API server, etcd and controller-manager: no nodes, so nothing gets ready."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import api_server  # noqa: F401 - a fixture

from bes_lab.cluster.control_plane import API_SERVER, ControlPlane
from bes_lab.cluster.programs import the_programs
from bes_lab.local.children import Child, Children

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples/kubernetes/opt-emulated.yaml"
CRD = ROOT / "crds/besteffortservices.yaml"
KINDS = "deployments,services,configmaps,secrets,serviceaccounts,rolebindings,poddisruptionbudgets,jobs"
OURS = "besteffort.dev/service"
LIMIT_SECONDS = 120.0
RESYNC_SECONDS = 3


@dataclass(frozen=True)
class Operator:
    """One running operator and where it says how it is."""

    child: Child
    port: int

    def metric(self, name: str) -> float:
        """Sum over labels."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", self._page("metrics"), re.MULTILINE)
        return sum(map(float, found))

    def writes(self) -> float:
        """PATCHes and DELETEs: everything but the Lease."""
        return self.metric_of("PATCH") + self.metric_of("DELETE")

    def metric_of(self, method: str) -> float:
        found = re.findall(rf'^bes_operator_api_calls_total{{method="{method}".*}} (.+)$', self._page("metrics"), re.M)
        return sum(map(float, found))

    def _page(self, name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text


class Scene:
    """A namespace of a test's own, and operators that look after it alone."""

    def __init__(self, plane: ControlPlane, children: Children, folder: Path, namespace: str) -> None:
        self._plane, self._children, self._folder = plane, children, folder
        self.namespace = namespace
        self.kubectl("create", "namespace", namespace)
        self._count = 0

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        command = [the_programs()["kubectl"], "--kubeconfig", str(self._plane.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
        return done.stdout

    def in_namespace(self, *arguments: str, **options: Any) -> str:
        return self.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply_sample(self) -> None:
        self.in_namespace("apply", "--server-side", "--filename", str(SAMPLE))

    def objects(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.in_namespace("get", KINDS, "--selector", OURS, "--output", "json"))["items"]
        return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}

    def service(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.in_namespace("get", "bes", "opt", "--output", "json"))
        return found

    def condition(self, name: str) -> str:
        found = (self.service().get("status") or {}).get("conditions") or []
        return next((each["status"] for each in found if each["type"] == name), "")

    def operator(self, *flags: str) -> Operator:
        self._count += 1
        log = self._folder / f"{self.namespace}-{self._count}.log"
        images = [f"--images.{name}=localhost/{name}:test" for name in ("router", "training", "engine")]
        child = self._children.start(
            f"operator {self._count}",
            [
                *(
                    sys.executable,
                    "-P",
                    "-W",
                    "error",
                    "-m",
                    "bes_operator",
                    "--kubeconfig",
                    str(self._plane.kubeconfig),
                ),
                *("--namespace", self.namespace, "--watch-namespaces", self.namespace, *images),
                *("--health-host", "127.0.0.1", "--health-port", "0", "--log-format", "plain"),
                *("--resync-seconds", str(RESYNC_SECONDS), "--backoff.cap-seconds", "3", *flags),
            ],
            log,
        )
        wait_until(lambda: "health on" in log.read_text(), "the operator serves its health")
        found = re.search(r"health on .*:(\d+)", log.read_text())
        assert found is not None
        return Operator(child, int(found[1]))

    def kill(self, operator: Operator, number: int = 9) -> None:
        self._children.signal(operator.child, number)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < limit, f"gave up waiting until {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def crd(api_server: ControlPlane) -> ControlPlane:  # noqa: F811 - the fixture that is imported
    kubectl = [the_programs()["kubectl"], "--kubeconfig", str(api_server.kubeconfig)]
    subprocess.run([*kubectl, "apply", "--server-side", "--force-conflicts", "-f", str(CRD)], check=True, timeout=120)
    subprocess.run([*kubectl, "wait", "--for=condition=Established", "-f", str(CRD)], check=True, timeout=120)
    return api_server


@pytest.fixture
def scene(crd: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with staged(crd, tmp_path, request.node.name.replace("_", "-")[5:55].strip("-")) as found:
        yield found


@contextmanager
def staged(plane: ControlPlane, folder: Path, namespace: str) -> Iterator[Scene]:
    with Children() as children:
        yield Scene(plane, children, folder, namespace)


def complete(scene: Scene) -> bool:
    """Everything of the sample is there: four Deployments, their Services, and a status of this generation."""
    kinds = [name.split("/")[0] for name in scene.objects()]
    stored = scene.service()
    seen = (stored.get("status") or {}).get("observedGeneration") == stored["metadata"]["generation"]
    return kinds.count("Deployment") == kinds.count("Service") == 4 and kinds.count("Job") == 1 and seen


def settled(scene: Scene, operator: Operator) -> dict[str, str]:
    """Versions of everything once two resyncs have gone by without a write."""
    versions: dict[str, str] = {}

    def quiet() -> bool:
        writes, lists = operator.writes(), operator.metric("bes_operator_lists_total")
        wait_until(lambda: operator.metric("bes_operator_lists_total") >= lists + 22, "everything is listed twice")
        versions.clear()
        versions.update({name: each["metadata"]["resourceVersion"] for name, each in scene.objects().items()})
        versions["the service"] = scene.service()["metadata"]["resourceVersion"]
        return operator.writes() == writes

    wait_until(quiet, "passes write nothing any more")
    return versions


def test_children_appear_and_passes_without_a_change_write_nothing(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    assert scene.condition("Stalled") == "False"
    service = scene.service()
    assert "finalizers" not in service["metadata"]
    assert all("besteffort" not in name for name in service["metadata"].get("annotations", {}))
    versions = settled(scene, operator)
    assert settled(scene, operator) == versions
    assert operator.metric("bes_operator_reconcile_errors_total") == 0


def ends(restarts: int, state: dict[str, Any]) -> dict[str, Any]:
    """A pod's status, as its kubelet would write it."""
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    known = {"name": "engine", "image": "localhost/engine:test", "imageID": "", "ready": False}
    return {"containerStatuses": [{**known, "restartCount": restarts, "state": state, "lastState": last}]}


def test_why_pods_do_not_start_stands_in_the_status_and_is_written_once(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply_sample()

    def pods() -> list[str]:
        return scene.in_namespace(
            "get", "pods", "--selector", f"{OURS},besteffort.dev/component=engine", "-o", "name"
        ).split()

    def becomes(status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        scene.in_namespace("patch", pods()[0], "--subresource", "status", "--type", "merge", "--patch", patch)

    def told(words: str) -> bool:
        conditions = (scene.service().get("status") or {}).get("conditions") or []
        return any(each["type"] == "Ready" and words in each["message"] for each in conditions)

    wait_until(lambda: complete(scene) and bool(pods()), "there are pods")
    no_node = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
    becomes({"conditions": [no_node]})
    wait_until(lambda: told("no node takes its pod (no GPU)"), "the scheduler is quoted")
    becomes({"conditions": [], **ends(3, {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}})})
    wait_until(lambda: told("container engine ends again and again (exit code 1)"), "the crash loop is told")
    wait_until(lambda: scene.condition("Stalled") == "True", "a person is asked")
    versions = settled(scene, operator)
    becomes(ends(4, {"running": {"startedAt": "2026-01-01T00:00:00Z"}}))
    becomes(ends(5, {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s"}}))
    assert settled(scene, operator) == versions


def test_deleted_and_edited_children_heal(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    before = scene.objects()
    healed = [name for name in before if not name.startswith(("Job/", "ConfigMap/opt-train", "ConfigMap/opt-policies"))]
    scene.in_namespace("delete", "--wait=false", *healed)
    wait_until(
        lambda: all(
            name in (now := scene.objects()) and now[name]["metadata"]["uid"] != before[name]["metadata"]["uid"]
            for name in healed
        ),
        "everything that was deleted is there again",
    )
    scene.in_namespace("scale", "deployment", "opt-router", "--replicas", "7")
    scene.in_namespace("label", "deployment", "opt-router", f"{OURS}-")
    scene.in_namespace("patch", "service", "opt-router", "--type=merge", "-p", '{"spec":{"selector":{"a":"b"}}}')

    def mended() -> bool:
        found = scene.objects()
        router = found.get("Deployment/opt-router")
        return (
            router is not None
            and router["spec"]["replicas"] == before["Deployment/opt-router"]["spec"]["replicas"]
            and "a" not in found["Service/opt-router"]["spec"]["selector"]
        )

    wait_until(mended, "hand edits are mended")
    settled(scene, operator)


def test_a_model_less_takes_its_children_away_and_leaves_the_others(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    before = scene.objects()
    service = yaml.safe_load(SAMPLE.read_text())
    gone = service["spec"]["models"].pop()["name"]
    for task in service["spec"]["tasks"]:
        del task["quality"][gone]
    scene.in_namespace("apply", "--server-side", "--filename", "-", text=yaml.safe_dump(service))

    def pruned() -> bool:
        kinds = [name.split("/")[0] for name in scene.objects()]
        return kinds.count("Deployment") == kinds.count("Service") == 3

    wait_until(pruned, "the model's children are gone")
    for name, each in scene.objects().items():
        if name.startswith(("Deployment/", "Service/")):
            assert each["metadata"]["uid"] == before[name]["metadata"]["uid"]
    settled(scene, operator)


def test_an_operator_that_was_killed_finds_its_work_again(scene: Scene) -> None:
    first = scene.operator()
    scene.apply_sample()
    wait_until(lambda: len(scene.objects()) >= 5, "some children are there")
    scene.kill(first)
    scene.in_namespace("delete", "--wait=false", "--ignore-not-found", "service", "opt-router")
    second = scene.operator()
    wait_until(lambda: complete(scene), "children are there, those too that vanished meanwhile")
    settled(scene, second)


def test_another_operator_takes_over_when_the_leader_is_killed(scene: Scene) -> None:
    first = scene.operator()
    wait_until(lambda: first.metric("bes_operator_leader") == 1, "the first one leads")
    second = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    assert second.metric("bes_operator_leader") == 0
    assert second.writes() == 0
    scene.kill(first)
    scene.in_namespace("delete", "--wait=false", "service", "opt-router")
    wait_until(lambda: second.metric("bes_operator_leader") == 1, "the second one leads")
    wait_until(lambda: "Service/opt-router" in scene.objects(), "the second one heals")


def test_a_deleted_service_takes_its_children_with_it(scene: Scene) -> None:
    scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    scene.in_namespace("delete", "bes", "opt", "--wait=true")
    wait_until(lambda: scene.objects() == {}, "the garbage collector has taken the children")


def test_an_api_server_that_dies_and_comes_back_is_survived(scene: Scene, crd: ControlPlane) -> None:
    operator = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    crd.kill(API_SERVER)
    time.sleep(5)
    crd.start(API_SERVER)
    scene.in_namespace("delete", "--wait=false", "service", "opt-router")
    wait_until(lambda: "Service/opt-router" in scene.objects(), "it heals again")
    assert operator.child.process.poll() is None


def test_a_strangers_object_is_left_alone_and_the_service_says_so(scene: Scene) -> None:
    scene.in_namespace("create", "configmap", "opt-active", "--from-literal=mine=yes")
    scene.operator()
    scene.apply_sample()
    wait_until(lambda: scene.condition("Stalled") == "True", "the service says that a name is taken")
    assert json.loads(scene.in_namespace("get", "configmap", "opt-active", "-o", "json"))["data"] == {"mine": "yes"}
    assert scene.objects() == {}
    scene.in_namespace("delete", "configmap", "opt-active")
    wait_until(lambda: complete(scene), "everything is there once the name is free")


def test_a_release_of_another_name_gives_another_role_and_bindings_follow(scene: Scene) -> None:
    first = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    before = scene.objects()
    scene.kill(first)
    scene.operator("--router-role", "another-router")

    def role() -> str:
        found: str = scene.objects().get("RoleBinding/opt-router", {}).get("roleRef", {}).get("name", "")
        return found

    wait_until(lambda: role() == "another-router", "routers are bound to the other role")
    after = scene.objects()
    assert [name for name in before if after[name]["metadata"]["uid"] != before[name]["metadata"]["uid"]] == [
        "RoleBinding/opt-router"
    ]
    assert scene.condition("Stalled") == "False"


def test_what_somebody_wrote_into_the_status_goes(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply_sample()
    wait_until(lambda: complete(scene), "children are there")
    ghost = {"name": "ghost", "deploymentName": "ghost", "ready": 1, "desired": 1}
    patch = json.dumps({"status": {"models": [ghost], "endpoint": "http://somewhere.example"}})
    scene.in_namespace("patch", "bes", "opt", "--subresource=status", "--type=merge", "-p", patch)

    def whole() -> bool:
        names = [model["name"] for model in scene.service()["status"]["models"]]
        return names == ["opt-125m", "opt-1.3b", "opt-6.7b"]

    wait_until(whole, "the status says what is")
    settled(scene, operator)
