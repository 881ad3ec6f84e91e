"""The control plane that tests of other rooms stand on: it serves, collects garbage, and comes back after a kill."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest
from control_plane import api_server

from bes_lab.cluster.control_plane import API_SERVER, ETCD, ControlPlane
from bes_lab.cluster.programs import the_programs

__all__ = ["api_server"]
pytestmark = pytest.mark.control_plane


def kubectl(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [the_programs()["kubectl"], f"--kubeconfig={plane.kubeconfig}", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def eventually(holds: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 60
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def config_map(name: str, owner: str | None = None) -> str:
    metadata: dict[str, object] = {"name": name, "namespace": "default"}
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner}]
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def test_what_an_owner_leaves_behind_is_collected(api_server: ControlPlane) -> None:
    made = kubectl(api_server, "apply", "-f", "-", "-o", "jsonpath={.metadata.uid}", stdin=config_map("owner"))
    assert made.returncode == 0, made.stderr
    owned = kubectl(api_server, "apply", "-f", "-", stdin=config_map("owned", made.stdout))
    assert owned.returncode == 0, owned.stderr
    kubectl(api_server, "delete", "configmap", "owner")
    assert eventually(lambda: kubectl(api_server, "get", "configmap", "owned").returncode != 0)


def test_somebody_without_rights_is_refused(api_server: ControlPlane) -> None:
    theirs = api_server.kubeconfig_for("nobody", "strangers")
    asked = subprocess.run(
        [the_programs()["kubectl"], f"--kubeconfig={theirs}", "get", "pods"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'User "nobody" cannot list resource "pods"' in asked.stderr


def test_killed_processes_come_back_with_what_they_knew(api_server: ControlPlane) -> None:
    assert kubectl(api_server, "apply", "-f", "-", stdin=config_map("kept")).returncode == 0
    api_server.kill(API_SERVER)
    api_server.kill(ETCD)
    assert not api_server.ready()
    api_server.start(ETCD)
    api_server.start(API_SERVER)
    assert kubectl(api_server, "get", "configmap", "kept").returncode == 0
