"""A cluster of kind's, where a Docker engine answers: only what differs from calling kind by hand."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bes_lab.cluster import devices
from bes_lab.cluster.layout import NAME, State
from bes_lab.cluster.programs import output, succeeds
from bes_lab.errors import ClusterError

_CREATE_SECONDS, _LOAD_SECONDS = 900.0, 900.0


def docker_answers() -> bool:
    """Whether a Docker engine runs that we may use."""
    docker = shutil.which("docker")
    return docker is not None and succeeds(docker, "info", seconds=10.0)


def configuration(nodes: int) -> str:
    """What kind is asked for: one control plane that also takes pods, or one and workers."""
    roles = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(nodes - 1))]
    return json.dumps({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": roles})


class Kind:
    """Raises ClusterError for what kind or kubectl complain about."""

    def __init__(self, state: State, say: Callable[[str], None]) -> None:
        self._say = say
        self._kind, self._kubectl = _program("kind"), _program("kubectl")
        self._kubeconfig = state.folder / "kind.kubeconfig"

    def up(self, count: int, advertised: Mapping[str, int]) -> None:
        """Create it unless it is there, and let its nodes advertise devices."""
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if not self._there():
            create = ("create", "cluster", "--name", NAME, "--kubeconfig", str(self._kubeconfig), "--wait", "180s")
            output(self._kind, *create, "--config", "-", stdin=configuration(count), seconds=_CREATE_SECONDS)
        names = [node["metadata"]["name"] for node in self._nodes()]
        for name, share in zip(names, devices.shared_out(advertised, len(names)), strict=True):
            if share:
                self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", devices.patch(share))
        self._say(f"kind's cluster {NAME} is ready: {', '.join(names)}")

    def down(self, *, purge: bool = False) -> None:  # noqa: ARG002 - kind keeps no images of its own
        """Delete it."""
        output(self._kind, "delete", "cluster", "--name", NAME, "--kubeconfig", str(self._kubeconfig))

    def load(self, archive: Path) -> None:
        """Let every node hold the archive's images."""
        output(self._kind, "load", "image-archive", archive, "--name", NAME, seconds=_LOAD_SECONDS)

    def kubectl(self, *arguments: str) -> str:
        """What kubectl says, as the administrator."""
        return output(*self.inside(self._kubectl), *arguments)

    def inside(self, *command: str) -> tuple[str, ...]:
        """A command line that runs ``command`` as the administrator; kind's API server is reached from anywhere."""
        if not self._there():
            raise ClusterError("the cluster is down: `bes cluster up`")
        return ("/usr/bin/env", f"KUBECONFIG={self._kubeconfig}", *command)

    def status(self) -> Mapping[str, object]:
        """As `bes cluster status` says it."""
        nodes = {each["metadata"]["name"]: _ready(each) for each in self._nodes()} if self._there() else {}
        return {"kind": "kind", "up": bool(nodes) and all(nodes.values()), "daemons": {}, "nodes": nodes, "images": []}

    def _there(self) -> bool:
        return NAME in output(self._kind, "get", "clusters").split()

    def _nodes(self) -> list[dict[str, dict[str, str]]]:
        listed: list[dict[str, dict[str, str]]] = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return listed


def _ready(node: Mapping[str, Mapping[str, object]]) -> bool:
    conditions = node["status"]["conditions"]
    assert isinstance(conditions, list)  # noqa: S101 - the API's own form
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"Docker answers, but there is no {name} on the PATH: install it, or say --native as root")
    return found
