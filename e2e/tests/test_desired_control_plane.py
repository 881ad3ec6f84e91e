"""What the operator applies, on a real API server: it is taken as it is, once, and who scales changes without a dip."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from control_plane import api_server
from desired_samples import EVERYTHING, ROOT, changed, request_for, service_in
from golden_manifests import SOURCES

from bes_api.service import BestEffortService
from bes_lab.cluster.control_plane import ControlPlane
from bes_lab.cluster.programs import the_programs
from bes_operator.cluster import ApiServer, connect
from bes_operator.compare import must_apply
from bes_operator.desired.objects import desired_objects
from bes_operator.desired.request import Desired
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.names import engine_name

__all__ = ["api_server"]
pytestmark = pytest.mark.control_plane
SCHEMA = ROOT / "crds" / "besteffortservices.yaml"
SCALED = "opt-1.3b"


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> str:
    command = [the_programs()["kubectl"], f"--kubeconfig={plane.kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plane(api_server: ControlPlane) -> ControlPlane:
    kubectl(api_server, "apply", "--server-side", "--force-conflicts", "-f", str(SCHEMA))
    kubectl(api_server, "wait", "--for=condition=established", "--timeout=60s", "-f", str(SCHEMA))
    return api_server


def placed(plane: ControlPlane, source: Path, namespace: str) -> Desired:
    """The request for a service that is there, in a namespace of its own; its children would be collected otherwise."""
    labels = "pod-security.kubernetes.io/enforce=baseline"
    kubectl(plane, "create", "namespace", namespace)
    kubectl(plane, "label", "namespace", namespace, labels)
    service = service_in(source)
    document = service.model_dump(mode="json", by_alias=True, exclude_unset=True)
    kubectl(plane, "apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(document))
    uid = kubectl(plane, "get", "bes", service.name, "--namespace", namespace, "-o", "jsonpath={.metadata.uid}")
    return request_for(source, namespace=namespace, uid=uid)


def on(plane: ControlPlane, work: Callable[[ApiServer], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        server = await connect(plane.kubeconfig, 60.0, 500, lambda _method, _status: None)
        try:
            return await work(server)
        finally:
            await server.close()

    return asyncio.run(run())


async def passed(server: ApiServer, request: Desired, keys: Sequence[Key] | None = None) -> list[Manifest]:
    """One pass as the operator does it, over all or some objects: what had to be applied, as it was then."""
    live = {key: found for key in keys or () if (found := await server.read(key)) is not None}
    applied = []
    for step in desired_objects(replace(request, live=live)).steps:
        key = key_of(step.manifest)
        if keys is not None and key not in keys:
            continue
        if must_apply(step.manifest, await server.read(key), step.field_manager):
            applied.append(await server.apply(step))
    return applied


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_object_is_taken_and_the_same_intent_again_changes_nothing(plane: ControlPlane, source: Path) -> None:
    request = placed(plane, source, f"golden-{source.parent.name}-{source.stem}")

    async def twice(server: ApiServer) -> tuple[list[Manifest], list[Manifest]]:
        return await passed(server, request), await passed(server, request)

    first, second = on(plane, twice)
    assert {key_of(manifest) for manifest in first} == {
        key_of(step.manifest) for step in desired_objects(request).steps
    }
    dropped = {
        engine_name(request.service.name, each.name) for each in request.service.spec.models if each.resource_claims
    }
    assert {manifest["metadata"]["name"] for manifest in second} <= dropped  # this release has device claims off


def test_pods_of_our_own_images_are_fit_for_a_restricted_namespace(plane: ControlPlane) -> None:
    kubectl(plane, "create", "namespace", "restricted")
    kubectl(plane, "label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    source = next(path for path in SOURCES if path.stem == "emulated")
    for manifest in desired_objects(request_for(source, namespace="restricted")).manifests:
        if manifest["kind"] in {"ServiceAccount", "Deployment"}:
            metadata = {"name": manifest["metadata"]["name"], "namespace": "restricted"}
            given = {**manifest, "metadata": metadata}
            if manifest["kind"] == "Deployment":
                template = manifest["spec"]["template"]
                given = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            dry = ["--dry-run=server"] if manifest["kind"] == "Deployment" else []
            kubectl(plane, "create", *dry, "-f", "-", stdin=json.dumps(given))


class Scaled:
    """The Deployment of one model of a service whose other objects do not matter."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.request = placed(plane, EVERYTHING, namespace)
        self.key = Key("Deployment", namespace, engine_name("everything", SCALED))
        self.seen: list[int] = []

    def state(self, stated: dict[str, Any]) -> int:
        """One pass with the model stated so; how many calls it took."""

        def change(spec: dict[str, Any]) -> None:
            model = spec["models"][1]
            for member in ("replicas", "replicaRange", "resources", "resourceClaims"):  # claims: see above
                model.pop(member, None)
            model.update(stated)

        service: BestEffortService = changed(service_in(EVERYTHING), change)

        async def run(server: ApiServer) -> list[Manifest]:
            return await passed(server, replace(self.request, service=service), [self.key])

        applied = on(self.plane, run)
        self.seen += [manifest["spec"]["replicas"] for manifest in applied]
        return len(applied)

    @property
    def replicas(self) -> int:
        found = kubectl(
            self.plane, "get", "deployment", self.key.name, "-n", self.key.namespace, "-o", "jsonpath={.spec.replicas}"
        )
        return int(found)

    def scale(self, replicas: int) -> None:
        kubectl(self.plane, "scale", "deployment", self.key.name, "-n", self.key.namespace, f"--replicas={replicas}")


RANGE = {"replicaRange": {"min": 2, "max": 4}}


def test_a_fixed_number_is_handed_over_scaled_and_taken_back_without_a_dip(plane: ControlPlane) -> None:
    model = Scaled(plane, "handed-over")
    model.state({"replicas": 4})
    assert model.state(RANGE) == 2
    assert model.state(RANGE) == 0
    assert set(model.seen) == {4}
    model.scale(3)
    assert model.state(RANGE) == 0
    assert model.replicas == 3
    model.seen.clear()
    assert model.state({"replicas": 3}) >= 1
    assert model.state({"replicas": 3}) == 0
    assert set(model.seen) == {3}


def test_taking_back_right_after_handing_over_leaves_one_owner(plane: ControlPlane) -> None:
    model = Scaled(plane, "taken-back")
    model.state({"replicas": 2})
    model.state(RANGE)
    model.state({"replicas": 2})
    assert model.state({"replicas": 2}) == 0
    assert set(model.seen) == {2}
    assert model.state({"replicas": 1}) == 1
    assert model.replicas == 1


def test_a_new_model_with_a_range_begins_inside_it_and_is_kept_there(plane: ControlPlane) -> None:
    model = Scaled(plane, "kept-inside")
    model.state(RANGE)
    assert model.replicas == 2
    assert model.state(RANGE) == 0
    for outside, inside in ((0, 2), (9, 4)):
        model.scale(outside)
        model.state(RANGE)
        assert model.replicas == inside
        assert model.state(RANGE) == 0
