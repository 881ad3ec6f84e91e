"""A cluster of one or two nodes on this machine: no Docker, no registry, no route to anywhere. Needs root on Linux.

`up` starts what is missing; where etcd does not run it begins anew, with nothing but the images of before. `down` finds
everything by name, so it also ends what a killed `up` left behind.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from bes_lab.cluster import cgroups, devices
from bes_lab.cluster.certificates import Leaf, control_plane_leaves, issue, node_leaf, write_kubeconfig
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.commands import ApiServer, controller_manager_command, etcd_command, scheduler_command
from bes_lab.cluster.daemons import Daemons
from bes_lab.cluster.layout import (
    ALL_NODES,
    API_ADDRESS,
    API_PORT,
    API_SERVICE,
    NETNS,
    SERVICES,
    Node,
    State,
    nodes,
)
from bes_lab.cluster.mounts import FOLDERS, Mounts
from bes_lab.cluster.network import Network
from bes_lab.cluster.node_files import CONTAINERD, KUBELET, PROXY, write_node_files
from bes_lab.cluster.node_images import NodeImages
from bes_lab.cluster.programs import Programs, output, succeeds
from bes_lab.errors import ClusterError

ETCD, API_SERVER, MANAGER, SCHEDULER = "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"
NEEDED = (
    *(ETCD, API_SERVER, MANAGER, SCHEDULER, "kubelet", "kube-proxy", "kubectl", "coredns", "pause", "openssl"),
    *("containerd", "ctr", "runc", "iptables", "conntrack", "ip", "sysctl", "nsenter", "unshare", "setsid", "mount"),
    *("umount", "mountpoint", "findmnt"),
)
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""With their bits: network and mount namespaces take them."""
READY_SECONDS = 300.0
_STORE, _PEERS = "http://127.0.0.1:12379", "http://127.0.0.1:12380"
Say = Callable[[str], None]


def barred() -> str:
    """Why no native cluster can be made here whatever is installed; "" where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a native cluster needs root on Linux; where Docker runs, kind needs neither"
    status = dict(line.split(":\t", maxsplit=1) for line in Path("/proc/self/status").read_text().splitlines())
    held = int(status["CapEff"], 16)
    lacking = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    return f"root lacks {', '.join(lacking)} here; leave the container, or start it privileged" if lacking else ""


def needs_of_this_machine(programs: Programs) -> list[str]:
    """What stands in the way of a native cluster, each with its mend; none: it can be made."""
    problems = [problem] if (problem := barred()) else []
    if missing := programs.missing(NEEDED):
        problems.append(f"missing: {', '.join(missing)}; run `make kubernetes` and `make cluster-packages`")
    return problems


class Native:
    """See the module."""

    def __init__(self, state: State, programs: Programs, say: Say) -> None:
        self.state, self._programs, self._say = state, programs, say
        self.daemons = Daemons(state, programs)
        self._network = Network(programs)
        self._mounts = Mounts(state, programs)
        self.images = NodeImages(state, programs)

    def up(self, count: int, advertised: Mapping[str, int]) -> None:
        """Start what is missing, and wait until every node is ready and names resolve. Raises ClusterError."""
        if problems := needs_of_this_machine(self._programs):
            raise ClusterError("\n".join(problems))
        self.state.folder.mkdir(parents=True, exist_ok=True)
        chosen = nodes(count)
        if not self.daemons.alive(ETCD):
            self._begin_anew()
        self._issue()
        cgroups.raise_cgroups(chosen)
        self._network.guard()
        self._prepare(chosen[0])
        self._control_plane()
        for node in chosen[1:]:
            self._prepare(node)
        for node in chosen:
            self._node(node)
        for node, share in zip(chosen, devices.shared_out(advertised, count), strict=True):
            self._wait(f"{node.name} is ready", lambda node=node: self._ready(node))  # type: ignore[misc]
            self.advertise(node, share)
        self.kubectl("apply", "--server-side", "--filename", str(checkout() / "e2e/cluster/coredns.yaml"))
        rollout = ("rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=5s")
        self._wait("names resolve", lambda: self._asks(*rollout))

    def down(self, *, purge: bool = False) -> None:
        """End everything and leave nothing behind but the images; with ``purge`` not even those."""
        for name in self._in_order_of_ending(self.daemons.names()):
            # An API server that is asked to end takes ten seconds over it, and nobody wants its data any more.
            self.daemons.end(name, signal.SIGKILL if name.startswith("kube-") else signal.SIGTERM)
        cgroups.kill_members()
        for node in reversed(ALL_NODES):
            self._mounts.detach(node)
            self._network.disconnect(node)
        self._network.unguard()
        cgroups.remove_cgroups()
        if self.state.folder.is_dir():
            self._mounts.leave_nothing()
            self._forget(keep_images=not purge)

    def advertise(self, node: Node, share: Mapping[str, int]) -> None:
        """Let a node say that it has these devices; its kubelet keeps that."""
        if share:
            self.kubectl("patch", "node", node.name, "--subresource=status", "--type=merge", "-p", devices.patch(share))

    def kubectl(self, *arguments: str) -> str:
        """What kubectl says, as the administrator. Raises ClusterError with what it complains about."""
        return output(*self.inside(self._programs["kubectl"]), *arguments)

    def inside(self, *command: str) -> tuple[str, ...]:
        """A command line that runs ``command`` on the first node, as the administrator. Raises ClusterError."""
        node = Node(1)
        if not (NETNS / node.netns).exists():
            raise ClusterError("the cluster is down: `bes cluster up`")
        variables = [f"KUBECONFIG={self.state.kubeconfig}", f"PATH={self._programs.path}"]
        entered = (self._programs["nsenter"], f"--net={NETNS / node.netns}", "--")
        return (*entered, self._programs["env"], *variables, *command)

    def load(self, archive: Path) -> None:
        """Let every node hold the archive's images. Raises ClusterError."""
        if not self.running():
            raise ClusterError("the cluster is down: `bes cluster up`")
        for node in self.running():
            self.images.load(node, archive)

    def status(self) -> Mapping[str, object]:
        """As `bes cluster status` says it."""
        alive = {name: self.daemons.alive(name) for name in self.daemons.names()}
        answers = alive.get(API_SERVER, False)
        ready = {node.name: answers and self._ready(node) for node in self.running()}
        images = self.images.names(Node(1)) if alive.get(_daemon("containerd", Node(1))) else []
        up = bool(alive and ready) and all(alive.values()) and all(ready.values())
        return {"kind": "native", "up": up, "daemons": alive, "nodes": ready, "images": images}

    def running(self) -> tuple[Node, ...]:
        """Nodes whose namespace exists."""
        return tuple(node for node in ALL_NODES if (NETNS / node.netns).exists())

    def _begin_anew(self) -> None:
        if self.daemons.names() or self.running():
            self._say("ending what an earlier cluster left behind")
        self.down()
        self.state.folder.mkdir(parents=True, exist_ok=True)

    def _forget(self, *, keep_images: bool) -> None:
        if not keep_images:
            shutil.rmtree(self.state.folder)
            return
        for part in self.state.folder.iterdir():
            if part.name not in {node.name for node in ALL_NODES} | {self.images.archives.name}:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        for node in ALL_NODES:
            for name in {*FOLDERS} - {"containerd"}:
                shutil.rmtree(self.state.node(node) / name, ignore_errors=True)

    def _issue(self) -> None:
        clients = [Leaf(SCHEDULER, "system:kube-scheduler"), Leaf("kube-proxy", "system:kube-proxy")]
        leaves = [*control_plane_leaves(["127.0.0.1", API_SERVICE, API_ADDRESS]), *clients, *map(node_leaf, _names())]
        issue(self._programs["openssl"], self.state.certificates, leaves)
        for name in ("admin", MANAGER, SCHEDULER, "kube-proxy", *_names()):
            write_kubeconfig(self.state.certificates, name, f"https://{API_ADDRESS}:{API_PORT}")

    def _prepare(self, node: Node) -> None:
        self._mounts.make_folder(NETNS)
        self._network.connect(node)
        self._mounts.attach(node)
        write_node_files(self.state, node)

    def _control_plane(self) -> None:
        first, certificates, find = Node(1), self.state.certificates, self._programs.__getitem__
        server = ApiServer(_STORE, "0.0.0.0", API_ADDRESS, API_PORT, SERVICES, certificates)  # noqa: S104 - of the namespace
        manager, scheduler = (certificates / f"{name}.kubeconfig" for name in (MANAGER, SCHEDULER))
        self.daemons.start(ETCD, first, *etcd_command(find(ETCD), self.state.store, _STORE, _PEERS))
        self.daemons.start(API_SERVER, first, *server.command(find(API_SERVER)))
        self._wait("the API server is ready", lambda: self._asks("get", "--raw", "/readyz"), API_SERVER)
        self.daemons.start(MANAGER, first, *controller_manager_command(find(MANAGER), manager, certificates))
        self.daemons.start(SCHEDULER, first, *scheduler_command(find(SCHEDULER), scheduler))

    def _node(self, node: Node) -> None:
        folder, find = self.state.node(node), self._programs.__getitem__
        runtime = _daemon("containerd", node)
        self.daemons.start(runtime, node, find("containerd"), "--config", str(folder / CONTAINERD))
        self._wait(f"{node.name} runs containers", lambda: self.images.answers(node), runtime)
        for archive in self.images.kept():
            self.images.load(node, archive)
        named = [f"--hostname-override={node.name}", f"--node-ip={node.address}"]
        kubeconfig = f"--kubeconfig={self.state.certificates / f'{node.name}.kubeconfig'}"
        kubelet = [find("kubelet"), f"--config={folder / KUBELET}", kubeconfig, *named]
        self.daemons.start(_daemon("kubelet", node), node, *kubelet)
        self.daemons.start(_daemon("kube-proxy", node), node, find("kube-proxy"), f"--config={folder / PROXY}")

    def _ready(self, node: Node) -> bool:
        """Ready, and said so since this kubelet started: the store may still hold what an earlier one said."""
        with contextlib.suppress(ClusterError):
            for condition in json.loads(self.kubectl("get", "node", node.name, "-o", "json"))["status"]["conditions"]:
                if condition["type"] == "Ready" and condition["status"] == "True":
                    said = datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
                    return said >= int(self.daemons.started_at(_daemon("kubelet", node)))
        return False

    def _asks(self, *arguments: str) -> bool:
        return succeeds(*self.inside(self._programs["kubectl"]), *arguments)

    def _wait(self, what: str, holds: Callable[[], bool], daemon: str | None = None) -> None:
        started = time.monotonic()
        while not holds():
            for name in [daemon] if daemon else self.daemons.names():
                if not self.daemons.alive(name):
                    raise ClusterError(f"{name} ended; the end of {self.state.logs / name}:\n{self.daemons.tail(name)}")
            if time.monotonic() - started > READY_SECONDS:
                logs = self.state.logs
                raise ClusterError(f"gave up after {READY_SECONDS:g} s of waiting until {what}; the logs lie in {logs}")
            time.sleep(0.1)
        self._say(f"{what} ({time.monotonic() - started:.1f} s)")

    @staticmethod
    def _in_order_of_ending(names: Sequence[str]) -> Iterator[str]:
        """Kubelets before what they run on, the store last."""
        order = ("kubelet", "kube-", "containerd", ETCD)
        yield from sorted(names, key=lambda name: next(i for i, part in enumerate(order) if name.startswith(part)))


def _names() -> tuple[str, ...]:
    return tuple(node.name for node in ALL_NODES)


def _daemon(program: str, node: Node) -> str:
    return f"{program}-{node.name}"
