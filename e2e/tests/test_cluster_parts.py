"""What a cluster is made of, as far as it is values: certificates, command lines, node files, devices, archives."""

import contextlib
import io
import json
import os
import ssl
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_api.documents import the_service
from bes_api.service import BestEffortService
from bes_lab.cluster import cgroups, devices
from bes_lab.cluster.archive import PAUSE, ProgramImage
from bes_lab.cluster.certificates import Leaf, control_plane_leaves, issue, kubeconfig
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.command import CLUSTER
from bes_lab.cluster.daemons import began
from bes_lab.cluster.images import IMAGES
from bes_lab.cluster.kind import configuration
from bes_lab.cluster.layout import ALL_NODES, PODS, State, nodes
from bes_lab.cluster.node_files import CONTAINERD, KUBELET, POD_NETWORK, node_files
from bes_lab.cluster.node_images import names_in
from bes_lab.cluster.programs import BUILT, Programs, output
from bes_lab.errors import ClusterError

ROOT = Path(__file__).resolve().parents[2]
V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    issue(Programs([])["openssl"], tmp_path, control_plane_leaves(["127.0.0.1"]))
    return tmp_path


def test_the_server_s_certificate_is_good_for_its_names_and_a_client_s_shows_who_it_is(certificates: Path) -> None:
    said = output("openssl", "x509", "-in", str(certificates / "kube-apiserver.crt"), "-noout", "-text")
    assert "DNS:kubernetes.default.svc.cluster.local" in said
    assert "IP Address:127.0.0.1" in said
    assert "TLS Web Server Authentication" in said
    client = output("openssl", "x509", "-in", str(certificates / "admin.crt"), "-noout", "-subject")
    assert ("system:masters" in client, "kubernetes-admin" in client) == (True, True)
    output("openssl", "verify", "-CAfile", str(certificates / "ca.crt"), str(certificates / "admin.crt"))
    with pytest.raises(ClusterError):  # of the other authority
        output("openssl", "verify", "-CAfile", str(certificates / "ca.crt"), str(certificates / "front-client.crt"))


def test_certificates_that_are_there_stay(certificates: Path) -> None:
    before = {path.name: path.read_bytes() for path in certificates.iterdir()}
    issue(Programs([])["openssl"], certificates, [*control_plane_leaves(["127.0.0.1"]), Leaf("late", "late")])
    after = {path.name: path.read_bytes() for path in certificates.iterdir()}
    assert {name: after[name] for name in before if not name.endswith(".srl")} == {
        name: before[name] for name in before if not name.endswith(".srl")
    }
    assert "late.crt" in after


def test_a_kubeconfig_holds_a_key_that_fits_its_certificate(certificates: Path) -> None:
    (user,) = json.loads(kubeconfig(certificates, "admin", "https://127.0.0.1:1"))["users"]
    assert set(user["user"]) == {"client-certificate-data", "client-key-data"}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(certificates / "admin.crt", certificates / "front-client.key")


def test_a_program_that_is_built_is_never_the_system_s(tmp_path: Path) -> None:
    assert Programs([]).missing(BUILT) == list(BUILT)
    (tmp_path / "etcd").touch(mode=0o755)
    assert Programs([tmp_path]).find("etcd") == tmp_path / "etcd"
    with pytest.raises(ClusterError, match="make kubernetes"):
        Programs([])["kubelet"]
    with pytest.raises(ClusterError, match="make cluster-packages"):
        Programs([])["no-such-program"]


def test_nodes_share_no_address_and_no_pod_network() -> None:
    for part in ("name", "netns", "address", "pods"):
        assert len({getattr(node, part) for node in ALL_NODES}) == len(ALL_NODES)
    assert all(node.pods.startswith(PODS.removesuffix(".0.0/16")) for node in ALL_NODES)


def test_pods_of_a_node_have_addresses_of_its_network_and_its_kubelet_has_its_cgroup(tmp_path: Path) -> None:
    for node in nodes(2):
        files = node_files(State(tmp_path), node)
        assert node.pods in files[POD_NETWORK]
        assert json.loads(files[KUBELET])["cgroupRoot"].endswith(f"/{node.name}")
        assert json.loads(files[KUBELET])["address"] == node.address
        assert f'sandbox_image = "{PAUSE}"' in files[CONTAINERD]


def test_every_hierarchy_of_version_1_is_entered_or_the_one_of_version_2() -> None:
    assert [path.name for path in cgroups.hierarchies(V1)] == ["cpu", "pids"]
    assert cgroups.hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n") == (Path("/sys/fs/cgroup"),)


def test_a_process_is_told_from_a_later_one_with_its_id() -> None:
    assert began(os.getpid()) == began(os.getpid())
    assert began(os.getpid()) != began(1)
    assert began(2**30) is None


def test_a_process_that_only_waits_to_be_reaped_has_ended() -> None:
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    limit = time.monotonic() + 30
    while (ended := began(child) is None) is False and time.monotonic() < limit:
        time.sleep(0.01)
    os.waitpid(child, 0)
    assert ended


def test_nodes_advertise_together_exactly_what_a_service_asks_for() -> None:
    service, _ = the_service(ROOT / "examples" / "kubernetes" / "opt-vllm.yaml")
    asked = devices.requested(service)
    counted = sum(model.max_replicas for model in service.spec.models if model.resources)
    assert sum(asked.values()) == counted
    assert all("/" in name for name in asked)


def test_a_service_without_devices_asks_for_none() -> None:
    service, _ = the_service(ROOT / "examples" / "opt-paper.yaml")
    bare = [model.model_copy(update={"resources": None}) for model in service.spec.models]
    spec = service.spec.model_copy(update={"models": tuple(bare)})
    assert devices.requested(BestEffortService.model_construct(spec=spec)) == {}


@given(st.dictionaries(st.sampled_from(["a/b", "c/d"]), st.integers(0, 100)), st.integers(1, 5))
def test_devices_are_shared_out_evenly_and_none_is_lost(counts: dict[str, int], among: int) -> None:
    shares = devices.shared_out(counts, among)
    assert len(shares) == among
    for name, count in counts.items():
        given_out = [share[name] for share in shares]
        assert sum(given_out) == count
        assert max(given_out) - min(given_out) <= 1


@pytest.mark.parametrize("given_wrong", ["gpu=1", "nvidia.com/gpu", "nvidia.com/gpu=", "nvidia.com/gpu=-1", ""])
def test_a_resource_that_cannot_be_read_says_what_was_expected(given_wrong: str) -> None:
    with pytest.raises(ClusterError, match="expected NAME=COUNT"):
        devices.stated(given_wrong)


def test_an_archive_holds_the_program_and_says_who_runs_it(tmp_path: Path) -> None:
    program = tmp_path / "say"
    program.write_bytes(b"#!/bin/sh\n")
    ProgramImage("localhost/say:1", program, 65532).write(tmp_path / "say.tar")
    with tarfile.open(tmp_path / "say.tar") as archive:
        (manifest,) = json.loads(_content(archive, "manifest.json"))
        configuration_ = json.loads(_content(archive, manifest["Config"]))
        with tarfile.open(fileobj=io.BytesIO(_content(archive, manifest["Layers"][0]))) as layer:
            assert [(each.name, each.mode) for each in layer] == [("bin/say", 0o755)]
    assert manifest["RepoTags"] == names_in(tmp_path / "say.tar") == ["localhost/say:1"]
    assert (configuration_["config"]["Entrypoint"], configuration_["config"]["User"]) == (["/bin/say"], "65532")


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    with contextlib.closing(member):
        return member.read()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 10240])
def test_a_file_that_is_no_archive_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.tar").write_bytes(content)
    with pytest.raises(ClusterError, match="no docker archive"):
        names_in(tmp_path / "other.tar")


def test_kind_is_asked_for_as_many_nodes_as_are_wanted() -> None:
    assert [node["role"] for node in json.loads(configuration(2))["nodes"]] == ["control-plane", "worker"]


ALLOWED = {
    "operator": {"crds/src/bes_api", "operator/src/bes_operator"},
    "router": {"crds/src/bes_api", "router/src/bes_router"},
    "training": {"crds/src/bes_api", "router/src/bes_router", "policy_training/src/bes_training"},
}


@pytest.mark.parametrize("room", ALLOWED)
def test_an_image_copies_exactly_the_sources_that_the_arrows_allow(room: str) -> None:
    copied = [path.relative_to(ROOT) for path in IMAGES[room].inputs(ROOT) if path.suffix == ".py"]
    assert {str(Path(*path.parts[:3])) for path in copied} == ALLOWED[room]


@pytest.mark.parametrize("room", [*ALLOWED, "engine"])
def test_an_image_runs_as_nobody_in_particular_and_takes_its_base_as_an_argument(room: str) -> None:
    text = (ROOT / IMAGES[room].dockerfile).read_text()
    assert "\nUSER 10001:10001\n" in text
    assert text.count("FROM ${BASE_IMAGE}") == 2
    assert "--require-hashes" in text


def test_an_image_is_built_anew_when_a_source_of_it_changes_and_only_then(tmp_path: Path) -> None:
    image = IMAGES["operator"]
    for path in (ROOT / image.dockerfile, ROOT / "requirements" / "operator.txt"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for folder in ALLOWED["operator"]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "code.py").write_text("one\n")
    before = image.digest(tmp_path, "base")
    (tmp_path / "unrelated.py").write_text("")
    assert image.digest(tmp_path, "base") == before
    (tmp_path / "operator/src/bes_operator/code.py").write_text("two\n")
    assert image.digest(tmp_path, "base") != before
    assert image.digest(tmp_path, "other base") != image.digest(tmp_path, "base")


def test_the_checkout_is_where_the_go_modules_are() -> None:
    assert checkout() == ROOT
    assert CLUSTER.extra == "lab"
