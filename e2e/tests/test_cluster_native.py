"""`bes cluster` without Docker: closed to the outside, GPUs to schedule by, and nothing left behind after any death."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from native_cluster import GPU, GPUS, cluster

from bes_lab.cluster import cgroups
from bes_lab.cluster.layout import NETNS, OUTSIDE
from bes_lab.cluster.mounts import FOLDERS
from bes_lab.cluster.native import Native
from bes_lab.errors import ClusterError

__all__ = ["cluster"]
pytestmark = pytest.mark.cluster
PLACES = (NETNS, *FOLDERS.values())


def eventually(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
    return True


def on_the_machine() -> dict[str, object]:
    """What a cluster could leave behind."""
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    return {
        "routes": sorted(routes.splitlines()),
        "mounts": sorted(Path("/proc/mounts").read_text().splitlines()),
        "folders": [str(place) for place in PLACES if place.exists()],
        "processes": sorted(cgroups.members()),
        "cgroups": [str(cgroups.ours(each)) for each in cgroups.hierarchies() if cgroups.ours(each).exists()],
    }


def bes(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from bes_api.command import main; sys.exit(main())", "cluster"]
    return subprocess.run([*command, "--native", *arguments], capture_output=True, text=True, timeout=600, check=False)


def pod(name: str, gpus: int) -> str:
    """A pod of the one image that every node holds."""
    container = {
        "name": "pause",
        "image": "localhost/best-effort-serving-pause:1",
        "imagePullPolicy": "Never",
        "resources": {"limits": {GPU: gpus}},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def apply(cluster: Native, tmp_path: Path, manifest: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(manifest)
    cluster.kubectl("apply", "--server-side", "-f", str(file))


def phase(cluster: Native, name: str) -> str:
    return cluster.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}")


def test_nothing_in_it_reaches_the_outside(cluster: Native) -> None:
    asked = subprocess.run(cluster.inside("ip", "route", "get", OUTSIDE), capture_output=True, text=True, check=False)
    assert asked.returncode != 0
    assert "unreachable" in asked.stderr


def test_the_machine_itself_does_not_reach_it_by_mistake(cluster: Native) -> None:
    asked = subprocess.run(["ip", "route", "get", "10.96.0.1"], capture_output=True, text=True, check=False)
    assert asked.returncode != 0


def test_names_of_services_resolve_and_no_others(cluster: Native) -> None:
    assert asked("kubernetes.default.svc.cluster.local", cluster) == "10.96.0.1"
    assert asked("example.com", cluster) == ""


def asked(name: str, cluster: Native) -> str:
    """The address that the cluster's name server gives to somebody on a node."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    packet = bytes.fromhex("0001 0100 0001 0000 0000 0000") + question
    program = f"""if True:
        import socket, time
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(1)
            for _ in range(100):  # until every node knows where the name server is, it is refused or lost
                try:
                    asking.sendto({packet!r}, ("10.96.0.10", 53))
                    answer = asking.recv(512)
                    break
                except OSError:
                    time.sleep(0.1)
        print(".".join(map(str, answer[-4:])) if answer[7] else "")
    """
    done = subprocess.run(cluster.inside(sys.executable, "-c", program), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pods_are_placed_by_the_gpus_that_nodes_advertise_and_wait_when_none_is_left(
    cluster: Native, tmp_path: Path
) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert sum(int(node["status"]["allocatable"][GPU]) for node in nodes) == GPUS
    for name, gpus in (("first", GPUS // 2), ("second", GPUS // 2), ("third", 1)):
        apply(cluster, tmp_path, pod(name, gpus))
    assert eventually(lambda: {phase(cluster, "first"), phase(cluster, "second")} == {"Running"})
    assert phase(cluster, "third") == "Pending"
    cluster.kubectl("delete", "pod", "first", "--wait")
    assert eventually(lambda: phase(cluster, "third") == "Running")
    cluster.kubectl("delete", "pod", "second", "third", "--wait")


def test_gpus_are_still_advertised_after_a_kubelet_was_killed(cluster: Native) -> None:
    cluster.daemons.end("kubelet-node1", signal.SIGKILL)
    assert json.loads(bes("status", "--json").stdout)["daemons"]["kubelet-node1"] is False
    cluster.up(2, {GPU: GPUS})
    node = json.loads(cluster.kubectl("get", "node", "node1", "-o", "json"))
    assert int(node["status"]["allocatable"][GPU]) == GPUS // 2


def test_a_store_that_was_killed_comes_back_with_what_it_knew(cluster: Native) -> None:
    cluster.kubectl("create", "configmap", "kept")
    cluster.daemons.end("etcd", signal.SIGKILL)
    cluster.daemons.start_again("etcd")
    assert eventually(lambda: _known(cluster, "kept"))


def _known(cluster: Native, name: str) -> bool:
    try:
        return name in cluster.kubectl("get", "configmap", name, "-o", "name", "--request-timeout=5s")
    except ClusterError:
        return False


def test_a_missing_archive_is_one_line(cluster: Native) -> None:
    loaded = bes("load-image", "nowhere.tar")
    assert loaded.returncode == 4
    assert (
        loaded.stderr.splitlines()[-1] + "\n"
        == "nowhere.tar: no such file; `make images` writes the project's archives\n"
    )


def test_words_after_kubectl_and_exec_are_their_own(cluster: Native) -> None:
    assert "node1" in bes("kubectl", "-n", "default", "get", "nodes", "-o", "name").stdout
    assert bes("exec", "--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("name", ["containerd-node1", "kubelet-node2", "kube-apiserver", "everything"])
def test_down_leaves_nothing_behind_whoever_was_killed_before(cluster: Native, name: str, tmp_path: Path) -> None:
    cluster.down()
    before = on_the_machine()
    assert (before["processes"], before["cgroups"]) == ([], [])  # its folders may be somebody else's: buildah makes one
    cluster.up(1 if name != "kubelet-node2" else 2, {GPU: GPUS})
    apply(cluster, tmp_path, pod("left", 1))
    assert eventually(lambda: phase(cluster, "left") == "Running")
    for daemon in cluster.daemons.names() if name == "everything" else [name]:
        cluster.daemons.end(daemon, signal.SIGKILL)
    cluster.down()
    assert on_the_machine() == before


def test_down_mends_an_up_that_was_killed_half_way(cluster: Native) -> None:
    cluster.down()
    before = on_the_machine()
    command = [sys.executable, "-c", "import sys; from bes_api.command import main; sys.exit(main())", "cluster"]
    with subprocess.Popen([*command, "--native", "up"], stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert "API server is ready" in up.stderr.readline()
        os.kill(up.pid, signal.SIGKILL)
    assert on_the_machine() != before
    assert bes("down").returncode == 0
    assert on_the_machine() == before
    assert bes("status").returncode == 4
