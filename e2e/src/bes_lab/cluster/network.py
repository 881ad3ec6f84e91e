"""A network namespace per node, without a route to anywhere else, and a guard on the machine's own side.

The guard: while the cluster is up the machine itself finds its networks unreachable, so that a client started outside
by mistake fails at once instead of following the machine's default route.
"""

from bes_lab.cluster.layout import (
    API_ADDRESS,
    BRIDGE,
    NETNS,
    NODE_NETWORK,
    OUTSIDE,
    PODS,
    SERVICES,
    Node,
)
from bes_lab.cluster.programs import Programs, output, succeeds
from bes_lab.errors import ClusterError

_GUARDED = (NODE_NETWORK, SERVICES, PODS)
_PREFIX = 24


class Network:
    """The cluster's networks on this machine."""

    def __init__(self, programs: Programs) -> None:
        self._ip, self._nsenter, self._sysctl = programs["ip"], programs["nsenter"], programs["sysctl"]

    def guard(self) -> None:
        """Make the cluster's networks unreachable from outside. Raises ClusterError where the machine uses them."""
        for network in _GUARDED:
            lines = output(self._ip, "route", "show", "table", "main", "root", network).splitlines()
            taken = [line for line in lines if not line.startswith("unreachable")]
            if taken:
                raise ClusterError(f"this machine already routes {taken[0].strip()}, which the cluster would use")
            if not lines:
                output(self._ip, "route", "add", "unreachable", network)

    def unguard(self) -> None:
        """Take the guard away."""
        for network in _GUARDED:
            succeeds(self._ip, "route", "del", "unreachable", network)

    def connect(self, node: Node) -> None:
        """Make a node's namespace with its end of the node network, then see that it is closed.

        Raises ClusterError.
        """
        if not (NETNS / node.netns).exists():
            output(self._ip, "netns", "add", node.netns)
            self._in(node, "link", "set", "lo", "up")
            if node.number == 1:
                self._in(node, "link", "add", BRIDGE, "type", "bridge")
            else:
                self._join(node)
            self._in(node, "addr", "add", f"{node.address}/{_PREFIX}", "dev", node.device)
            self._in(node, "link", "set", node.device, "up")
            if node.number > 1:
                self._routes_between(node)
            # From the node itself a service is only reached if routing succeeds before the address is changed.
            self._in(node, "route", "add", SERVICES, "dev", node.device, "src", node.address)
            self._set(node, "net.ipv4.ip_forward=1")
            # Without it answers between pods of one bridge pass by the service's translation.
            self._set(node, "net.bridge.bridge-nf-call-iptables=1")
        self._see_that_it_is_closed(node)

    def disconnect(self, node: Node) -> None:
        """Take a node's namespace away."""
        if (NETNS / node.netns).exists():
            output(self._ip, "netns", "del", node.netns)

    def _join(self, node: Node) -> None:
        first, port = Node(1), f"bes{node.number}"
        self._in(first, "link", "add", port, "type", "veth", "peer", "name", node.device, "netns", node.netns)
        self._in(first, "link", "set", port, "master", BRIDGE, "up")

    def _routes_between(self, node: Node) -> None:
        first = Node(1)
        self._in(first, "route", "replace", node.pods, "via", node.address)
        self._in(node, "route", "add", first.pods, "via", API_ADDRESS)

    def _see_that_it_is_closed(self, node: Node) -> None:
        own = output(*self._enter(node), self._ip, "route", "get", node.address)
        if not own.startswith("local "):
            raise ClusterError(f"{node.address} is not local in {node.netns}: `bes cluster down`, then up again")
        default = output(*self._enter(node), self._ip, "route", "show", "default").strip()
        if default or succeeds(*self._enter(node), self._ip, "route", "get", OUTSIDE):
            raise ClusterError(f"{node.netns} has a route to the outside; nothing was started in it")

    def _enter(self, node: Node) -> tuple[str, ...]:
        return (self._nsenter, f"--net={NETNS / node.netns}", "--")

    def _in(self, node: Node, *arguments: str) -> None:
        output(*self._enter(node), self._ip, *arguments)

    def _set(self, node: Node, setting: str) -> None:
        succeeds(*self._enter(node), self._sysctl, "-qw", setting)
