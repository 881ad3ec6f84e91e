"""etcd, kube-apiserver and kube-controller-manager on loopback, at free ports, in a folder of their own: no nodes.

What tests need who speak to a real API server: schemas, validation rules, roles, server-side apply, garbage collection.
Every process ends with the one that started it.
"""

import contextlib
import http.client
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from bes_lab.cluster.certificates import ADMIN, Leaf, control_plane_leaves, issue, write_kubeconfig
from bes_lab.cluster.commands import ApiServer, controller_manager_command, etcd_command
from bes_lab.cluster.programs import Programs
from bes_lab.local.children import Child, Children

ETCD, API_SERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"
NEEDED = (ETCD, API_SERVER, CONTROLLER_MANAGER, "kubectl", "openssl")
READY_SECONDS = 300.0
LOOPBACK = "127.0.0.1"
_SERVICES = "10.96.0.0/16"


class ControlPlane:
    """A running one. Each of its processes can be killed and started again, with its data kept."""

    def __init__(self, folder: Path, children: Children, programs: Programs) -> None:
        self._folder, self._children, self._programs = folder, children, programs
        self._running: dict[str, Child] = {}
        etcd, peers, self.port = _free_ports(3)
        self.url = f"https://{LOOPBACK}:{self.port}"
        self.certificates = folder / "certificates"
        issue(programs["openssl"], self.certificates, control_plane_leaves([LOOPBACK, "10.96.0.1"]))
        self.kubeconfig = write_kubeconfig(self.certificates, ADMIN, self.url)
        write_kubeconfig(self.certificates, CONTROLLER_MANAGER, self.url)
        self._commands = self._command_lines(etcd, peers)

    def start(self, name: str) -> None:
        """Start one of ETCD, API_SERVER and CONTROLLER_MANAGER, and wait until the API server is ready.

        Raises StartError with the end of its log.
        """
        self._running[name] = self._children.start(name, self._commands[name], self._folder / f"{name}.log")
        if name == API_SERVER:
            self._children.wait_until(self.ready, "the API server is ready", READY_SECONDS)

    def kill(self, name: str) -> None:
        """End one of them at once, as a lost machine would."""
        self._children.signal(self._running.pop(name), signal.SIGKILL)

    def ready(self) -> bool:
        """Whether the API server says so itself."""
        context = ssl.create_default_context(cafile=str(self.certificates / "ca.crt"))
        context.load_cert_chain(self.certificates / f"{ADMIN}.crt", self.certificates / f"{ADMIN}.key")
        with contextlib.closing(http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=context)) as asking:
            try:
                asking.request("GET", "/readyz")
                return asking.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def kubeconfig_for(self, user: str, *groups: str) -> Path:
        """A kubeconfig for somebody with no rights of his own, so that roles can be tried."""
        leaf = Leaf(user.replace(":", "-"), user, groups)
        issue(self._programs["openssl"], self.certificates, [leaf])
        return write_kubeconfig(self.certificates, leaf.name, self.url)

    def _command_lines(self, etcd: int, peers: int) -> Mapping[str, tuple[str, ...]]:
        store = f"http://{LOOPBACK}:{etcd}"
        server = ApiServer(store, LOOPBACK, LOOPBACK, self.port, _SERVICES, self.certificates)
        manager = self.certificates / f"{CONTROLLER_MANAGER}.kubeconfig"
        return {
            ETCD: etcd_command(self._programs[ETCD], self._folder / "etcd", store, f"http://{LOOPBACK}:{peers}"),
            API_SERVER: server.command(self._programs[API_SERVER]),
            CONTROLLER_MANAGER: controller_manager_command(
                self._programs[CONTROLLER_MANAGER], manager, self.certificates
            ),
        }


@contextlib.contextmanager
def control_plane(folder: Path, programs: Programs) -> Iterator[ControlPlane]:
    """A control plane that is ready; leaving the context ends it. ``folder`` is made, and stays with its logs.

    Raises ClusterError for a missing program, StartError for one that does not become ready. Main thread only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Children() as children:
        running = ControlPlane(folder, children, programs)
        try:
            for name in (ETCD, API_SERVER, CONTROLLER_MANAGER):
                running.start(name)
            yield running
        finally:
            # An API server that is asked to end takes ten seconds over it, and nobody wants its data any more.
            for child in tuple(children):
                children.signal(child, signal.SIGKILL)
            shutil.rmtree(folder / "etcd", ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at now. Held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
