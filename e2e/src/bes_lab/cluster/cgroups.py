"""One folder of our own in every cgroup hierarchy: what runs in it is ours to end, and nothing else is.

Daemons and the pods' shims live in ``bes-cluster/system``, the pods of a node in ``bes-cluster/node1``.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from bes_lab.cluster.layout import NAME, Node
from bes_lab.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
_SYSTEM = "system"
_CPUSET = ("cpuset.cpus", "cpuset.mems")
_KILL_SECONDS = 20.0


def hierarchies(mounts: str | None = None) -> tuple[Path, ...]:
    """Where processes are put: each hierarchy of version 1, or the one of version 2. ``mounts``: /proc/mounts' text."""
    lines = (Path("/proc/mounts").read_text(encoding="utf-8") if mounts is None else mounts).splitlines()
    found: dict[str, list[Path]] = {"cgroup": [], "cgroup2": []}
    for line in lines:
        _, place, kind, *_ = line.split()
        if kind in found and place.startswith(str(ROOT)):
            found[kind].append(Path(place))
    return tuple(found["cgroup"] or found["cgroup2"])


def ours(hierarchy: Path) -> Path:
    """Our folder in it."""
    return hierarchy / NAME


def raise_cgroups(nodes: tuple[Node, ...]) -> None:
    """Make our folders where they are not."""
    for hierarchy in hierarchies():
        unified = (hierarchy / "cgroup.controllers").exists()
        for part in (ours(hierarchy), *(ours(hierarchy) / name for name in (_SYSTEM, *(n.name for n in nodes)))):
            if unified and part.parent != ours(hierarchy):
                _delegate(part.parent)
            part.mkdir(exist_ok=True)
            for name in _CPUSET:  # version 1: empty until somebody says so, and then nothing can run there
                if not unified and (part / name).exists() and not (part / name).read_text().strip():
                    (part / name).write_text((part.parent / name).read_text())
        if unified:
            _delegate(ours(hierarchy))


def entrances() -> tuple[Path, ...]:
    """The files into which a daemon writes its process id."""
    return tuple(ours(hierarchy) / _SYSTEM / "cgroup.procs" for hierarchy in hierarchies())


def members(below: str = "") -> set[int]:
    """Process ids in our folders, or in one part of them."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for folder in _folders(ours(hierarchy) / below):
            with contextlib.suppress(OSError):  # it has just gone
                found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return found - {0}


def kill_members(below: str = "") -> None:
    """End every process in our folders, or in one part. Raises ClusterError if some do not end."""
    limit = time.monotonic() + _KILL_SECONDS
    while left := members(below):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > limit:
            raise ClusterError(f"processes of the cluster do not end: {sorted(left)}; `bes cluster down` again")
        time.sleep(0.05)


def remove_cgroups() -> None:
    """Remove our folders, runc's in the unified hierarchy beside version 1 among them."""
    for hierarchy in {*hierarchies(), ROOT / "unified"}:
        for folder in sorted(_folders(ours(hierarchy)), reverse=True):  # children first
            with contextlib.suppress(OSError):
                folder.rmdir()


def _folders(top: Path) -> Iterator[Path]:
    if top.is_dir():
        yield top
        yield from (folder for folder in top.rglob("*") if folder.is_dir())


def _delegate(folder: Path) -> None:
    """Version 2: hand every controller down, as a kubelet wants it."""
    controllers = (folder / "cgroup.controllers").read_text().split()
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
