"""The chart on a real API server: installed, upgraded, removed, installed again; accounts may do what they should."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import api_server
from helm_chart import CHART, NAMESPACE, ROOT, helm

from bes_lab.cluster.control_plane import ControlPlane
from bes_lab.cluster.programs import the_programs

__all__ = ["api_server"]
pytestmark = [pytest.mark.control_plane, pytest.mark.slow]
RELEASE = "best-effort-serving"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
TEAM = "team-a"
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "opt-router", "namespace": TEAM},
    "subjects": [{"kind": "ServiceAccount", "name": "opt-router", "namespace": TEAM}],
}


class Installed:
    """A control plane with the chart's release."""

    def __init__(self, server: ControlPlane) -> None:
        self._kubeconfig = str(server.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [the_programs()["kubectl"], "--kubeconfig", self._kubeconfig, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def helm(self, *arguments: str) -> str:
        said = helm(*arguments, "--kubeconfig", self._kubeconfig, "--namespace", NAMESPACE)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def upgrade(self, *values: str) -> str:
        """Install, or change what is installed; nothing waits, because there is no node to run pods on."""
        given = [word for value in values for word in ("--set", value)]
        return self.helm("upgrade", "--install", "--create-namespace", RELEASE, str(CHART), *given)

    def may(self, account: str, verb: str, what: str, namespace: str = TEAM) -> bool:
        """``what``: resource.group, with /name, or with #subresource."""
        resource, _, part = what.partition("#")
        given = (f"--subresource={part}",) if part else ()
        said = self.kubectl("auth", "can-i", verb, resource, *given, "--namespace", namespace, "--as", account)
        return said.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def installed(api_server: ControlPlane) -> Iterator[Installed]:
    cluster = Installed(api_server)
    assert cluster.kubectl("create", "namespace", TEAM).returncode == 0
    cluster.upgrade("prometheus.enabled=true")
    yield cluster
    cluster.helm("uninstall", RELEASE, "--ignore-not-found")
    cluster.kubectl("delete", "crd", "besteffortservices.besteffort.dev", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", TEAM, NAMESPACE, "--wait=false")


def test_the_notes_are_shown_and_the_definition_is_established(installed: Installed) -> None:
    assert "kubectl apply" in installed.upgrade("prometheus.enabled=true")
    crd = "crd/besteffortservices.besteffort.dev"
    assert installed.kubectl("wait", "--for", "condition=Established", "--timeout", "30s", crd).returncode == 0


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples" / "kubernetes").glob("opt-*.yaml")))
def test_every_sample_is_taken_as_it_is(installed: Installed, name: str) -> None:
    sample = str(ROOT / "examples" / "kubernetes" / name)
    said = installed.kubectl(
        "create", "--dry-run=server", "--validate=strict", "--namespace", TEAM, "--filename", sample
    )
    assert said.returncode == 0, said.stderr


def test_the_operator_may_bind_the_charts_two_roles_and_no_other(installed: Installed) -> None:
    def bind(role: str) -> subprocess.CompletedProcess[str]:
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        manifest = json.dumps({**BINDING, "roleRef": reference})
        apply = ("apply", "--server-side", "--dry-run=server", "--filename", "-")
        return installed.kubectl(*apply, "--as", OPERATOR, stdin=manifest)

    for role in (f"{NAMESPACE}-{RELEASE}-router", f"{NAMESPACE}-{RELEASE}-training"):
        said = bind(role)
        assert said.returncode == 0, said.stderr
    for role in ("view", "edit", "admin", "cluster-admin"):
        assert "is attempting to grant RBAC permissions not currently held" in bind(role).stderr


def test_the_operator_may_apply_children_and_not_what_is_nobodys_business(installed: Installed) -> None:
    for what in ("deployments.apps", "secrets", "jobs.batch", "configmaps"):
        assert installed.may(OPERATOR, "patch", what)
    assert installed.may(OPERATOR, "patch", "besteffortservices.besteffort.dev#status")
    for verb, what in (
        ("patch", "besteffortservices.besteffort.dev"),
        ("delete", "pods"),
        ("create", "pods#exec"),
        ("create", "roles.rbac.authorization.k8s.io"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
        ("list", "nodes"),
    ):
        assert not installed.may(OPERATOR, verb, what), (verb, what)
    assert installed.may(OPERATOR, "update", f"leases.coordination.k8s.io/{RELEASE}", NAMESPACE)
    assert not installed.may(OPERATOR, "update", "leases.coordination.k8s.io/another", NAMESPACE)


def test_the_charts_prometheus_may_look_at_pods_and_nothing_else(installed: Installed) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-prometheus"
    assert installed.may(account, "watch", "pods")
    assert not installed.may(account, "get", "secrets")
    assert not installed.may(account, "delete", "pods")


def test_admins_may_write_services_editors_only_see_them(installed: Installed) -> None:
    for role in ("view", "edit", "admin"):
        said = installed.kubectl(
            "create", "rolebinding", role, "--namespace", TEAM, "--clusterrole", role, "--user", role
        )
        assert said.returncode == 0, said.stderr
        assert installed.may(role, "get", "besteffortservices.besteffort.dev")
        assert installed.may(role, "create", "besteffortservices.besteffort.dev") == (role == "admin")


def test_services_outlive_the_release_and_the_next_one_takes_the_definition_over(installed: Installed) -> None:
    sample = str(ROOT / "examples" / "kubernetes" / "opt-emulated.yaml")
    assert installed.kubectl("create", "--namespace", TEAM, "--filename", sample).returncode == 0
    installed.helm("uninstall", RELEASE)
    there = installed.kubectl("get", "bes", "--namespace", TEAM, "--output", "name")
    assert there.stdout.strip() == "besteffortservice.besteffort.dev/opt"
    assert installed.kubectl("get", "clusterrole", f"{NAMESPACE}-{RELEASE}").returncode != 0
    installed.upgrade()
    assert installed.kubectl("get", "bes", "opt", "--namespace", TEAM).returncode == 0


def test_a_namespaced_release_gives_rights_there_and_nowhere_else(installed: Installed) -> None:
    installed.upgrade(f"watchNamespaces={{{TEAM}}}")
    assert installed.may(OPERATOR, "patch", "deployments.apps")
    assert not installed.may(OPERATOR, "list", "deployments.apps", "default")
    assert not installed.may(OPERATOR, "get", "secrets", NAMESPACE)


def test_the_definition_can_be_applied_by_kustomize_alone(installed: Installed) -> None:
    folder = str(Path(ROOT / "crds"))
    said = installed.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--kustomize", folder)
    assert said.returncode == 0, said.stderr
