"""A mount namespace per node, in which kubelet and containerd find their usual folders, each node its own.

Every mount that pods and their shims make lives in it, and goes with it.
"""

from collections.abc import Mapping
from pathlib import Path

from bes_lab.cluster.layout import NETNS, Node, State
from bes_lab.cluster.programs import Programs, output, succeeds

FOLDERS: Mapping[str, Path] = {
    "kubelet": Path("/var/lib/kubelet"),
    "cni": Path("/var/lib/cni"),
    "containerd": Path("/var/lib/containerd"),
    "run": Path("/run/containerd"),
    "pods": Path("/var/log/pods"),
    "containers": Path("/var/log/containers"),
    "net.d": Path("/etc/cni/net.d"),
}
"""A node's folders, and where its programs look for them."""
RESOLV = "resolv.conf"


class Mounts:
    """The nodes' mount namespaces on this machine."""

    def __init__(self, state: State, programs: Programs) -> None:
        self._state = state
        self._mount, self._umount = programs["mount"], programs["umount"]
        self._unshare, self._nsenter = programs["unshare"], programs["nsenter"]
        self._mountpoint, self._findmnt = programs["mountpoint"], programs["findmnt"]

    def attach(self, node: Node) -> None:
        """Make a node's namespace, unless it is there."""
        folder, held = self._state.node(node), self._state.mounts(node)
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        if succeeds(self._mountpoint, "-q", held):
            return
        for place in (*FOLDERS.values(), NETNS):
            self.make_folder(place)
        self._make_private()
        held.touch()
        output(self._unshare, f"--mount={held}", "--propagation", "private", self._mount, "--make-rshared", "/")
        for name, place in FOLDERS.items():
            self._inside(held, "--bind", folder / name, place)
        empty = folder / RESOLV
        empty.write_text("")
        self._inside(held, "--bind", empty, Path("/etc/resolv.conf").resolve())

    def detach(self, node: Node) -> None:
        """Let a node's namespace go, once nothing runs in it any more."""
        held = self._state.mounts(node)
        while succeeds(self._mountpoint, "-q", held):
            output(self._umount, held)
        held.unlink(missing_ok=True)

    def leave_nothing(self) -> None:
        """Undo what attaching the nodes did to the machine: its mounts, and the folders made as mount points."""
        if NETNS.is_dir() and not any(NETNS.iterdir()) and NETNS in self._made():
            succeeds(self._umount, NETNS)  # `ip netns add` binds the folder on itself
        if succeeds(self._mountpoint, "-q", self._state.folder):
            output(self._umount, self._state.folder)
        for place in reversed(self._made()):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        self._state.made_folders.unlink(missing_ok=True)

    def make_folder(self, place: Path) -> None:
        """Make a folder of the machine, and every one above it, noting each before it is there."""
        if place.is_dir():
            return
        self.make_folder(place.parent)
        with self._state.made_folders.open("a", encoding="utf-8") as made:
            made.write(f"{place}\n")
        place.mkdir()

    def _made(self) -> list[Path]:
        if not self._state.made_folders.exists():
            return []
        return [Path(line) for line in self._state.made_folders.read_text(encoding="utf-8").splitlines()]

    def _make_private(self) -> None:
        """A namespace can only be held by a file below a private mount."""
        shown = output(self._findmnt, "-no", "PROPAGATION", "-T", self._state.folder).split()
        if shown[-1:] != ["private"]:
            output(self._mount, "--bind", self._state.folder, self._state.folder)
            output(self._mount, "--make-private", self._state.folder)

    def _inside(self, held: Path, *arguments: str | Path) -> None:
        output(self._nsenter, f"--mount={held}", "--", self._mount, *arguments)
