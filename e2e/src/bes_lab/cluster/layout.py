"""Names, addresses and folders of a native cluster: everything that `down` needs to find again without any record."""

import os
from dataclasses import dataclass
from pathlib import Path

NAME = "bes-cluster"
"""Of the network namespaces and of the folder in every cgroup hierarchy."""
BRIDGE = "bes0"
NODE_NETWORK, SERVICES, PODS = "10.99.0.0/24", "10.96.0.0/16", "10.244.0.0/16"
API_ADDRESS, API_PORT = "10.99.0.1", 16443
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
OUTSIDE = "203.0.113.77"
"""An address that documentation reserves; a route to it is a route to anywhere."""
MAX_NODES = 2
NETNS = Path("/run/netns")


@dataclass(frozen=True)
class Node:
    """One of the cluster's nodes, counted from 1; the first also hosts the control plane."""

    number: int

    @property
    def name(self) -> str:
        """As Kubernetes calls it."""
        return f"node{self.number}"

    @property
    def netns(self) -> str:
        """Its network namespace."""
        return f"{NAME}-{self.number}"

    @property
    def address(self) -> str:
        """In the node network."""
        return f"10.99.0.{self.number}"

    @property
    def pods(self) -> str:
        """The network of its pods."""
        return f"10.244.{self.number - 1}.0/24"

    @property
    def device(self) -> str:
        """Its own end of the node network."""
        return BRIDGE if self.number == 1 else "eth0"


def nodes(count: int) -> tuple[Node, ...]:
    """The first ``count`` nodes."""
    return tuple(Node(number) for number in range(1, count + 1))


ALL_NODES = nodes(MAX_NODES)


@dataclass(frozen=True)
class State:
    """Where a cluster keeps what it is made of."""

    folder: Path

    @property
    def certificates(self) -> Path:
        """Keys, certificates and kubeconfigs."""
        return self.folder / "certificates"

    @property
    def store(self) -> Path:
        """etcd's data."""
        return self.folder / "etcd"

    @property
    def processes(self) -> Path:
        """A record for each daemon."""
        return self.folder / "processes"

    @property
    def logs(self) -> Path:
        """A log for each daemon."""
        return self.folder / "logs"

    @property
    def made_folders(self) -> Path:
        """Folders of the machine that were made as mount points, one a line; `down` removes them."""
        return self.folder / "made-folders"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.certificates / "admin.kubeconfig"

    def node(self, node: Node) -> Path:
        """What one node keeps: kubelet, containerd with its images, logs of pods."""
        return self.folder / node.name

    def mounts(self, node: Node) -> Path:
        """The file that holds the node's mount namespace."""
        return self.node(node) / "mounts.ns"


def cache() -> Path:
    """The project's folder in the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".cache") / "best-effort-serving"


def the_state() -> State:
    """The one cluster of this user."""
    return State(cache() / "cluster")
