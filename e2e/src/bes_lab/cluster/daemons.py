"""The cluster's long-lived processes: started apart from whoever starts them, found again by id and start time."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from bes_api.handover import dump_document, load_document
from bes_api.scenario import Frozen
from bes_lab.cluster.cgroups import entrances
from bes_lab.cluster.layout import NETNS, Node, State
from bes_lab.cluster.programs import Programs, output
from bes_lab.errors import ClusterError

STOP_SECONDS = 10.0
_START_SECONDS = 20.0
_TAIL_LINES = 8
# Joins our cgroups, says its own id, and becomes the program: $1 where it says so, $2 its log, the cgroups' files, --.
_ENTER = """
said=$1 log=$2; shift 2
while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift
echo $$ >"$said.part"; mv "$said.part" "$said"
exec "$@" >>"$log" 2>&1 </dev/null
"""


class Started(Frozen):
    """What is noted of a daemon: how to start it again."""

    node: int
    command: tuple[str, ...]


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same id."""

    id: int
    began: int
    """In clock ticks since the machine started."""


class Daemons:
    """Daemons by name; each enters its node's network and mounts, and our cgroups."""

    def __init__(self, state: State, programs: Programs) -> None:
        self._state, self._programs = state, programs

    def start(self, name: str, node: Node, *command: str) -> None:
        """Start it unless it runs."""
        if self.alive(name):
            return
        for folder in (self._state.processes, self._state.logs):
            folder.mkdir(exist_ok=True)
        dump_document(Started(node=node.number, command=command), self._note(name))
        said = self._said(name)
        said.unlink(missing_ok=True)
        enter = [self._programs["nsenter"], f"--net={NETNS / node.netns}", f"--mount={self._state.mounts(node)}", "--"]
        output(
            *(self._programs["setsid"], "--fork", "/bin/sh", "-ec", _ENTER, name, str(said)),
            *(str(self._state.logs / name), *map(str, entrances()), "--", *enter, *command),
        )
        limit = time.monotonic() + _START_SECONDS
        while not said.exists():
            if time.monotonic() > limit:
                raise ClusterError(f"{name} did not start: {self.tail(name)}")
            time.sleep(0.01)
        process = int(said.read_text())
        said.write_text(f"{process} {began(process) or 0}")

    def start_again(self, name: str) -> None:
        """Start a daemon as it was started before. Raises ClusterError for one that never was."""
        if not self._note(name).exists():
            raise ClusterError(f"no daemon {name}; there are {', '.join(self.names()) or 'none'}")
        noted = load_document(Started, self._note(name))
        self.start(name, Node(noted.node), *noted.command)

    def names(self) -> list[str]:
        """Those that were started and not stopped."""
        return sorted(note.stem for note in self._state.processes.glob("*.json"))

    def process(self, name: str) -> Process | None:
        """The process that was started, whether it still runs or not."""
        try:
            process, start = map(int, self._said(name).read_text().split())
        except (OSError, ValueError):
            return None
        return Process(process, start)

    def started_at(self, name: str) -> float:
        """When it was started, as the machine's clock says."""
        return self._said(name).stat().st_mtime

    def alive(self, name: str) -> bool:
        """Whether that very process still runs."""
        process = self.process(name)
        return process is not None and began(process.id) == process.began

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal and wait until it has ended; killed after a while. It can be started again."""
        process = self.process(name)
        if process is None or not self.alive(name):
            return
        limit = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.id, number)
            while self.alive(name):
                if time.monotonic() > limit:
                    os.kill(process.id, signal.SIGKILL)
                time.sleep(0.05)

    def forget(self) -> None:
        """Once all have ended."""
        for folder in (self._state.processes,):
            for note in folder.glob("*"):
                note.unlink()

    def tail(self, name: str) -> str:
        """The end of its log."""
        try:
            lines = (self._state.logs / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(lines[-_TAIL_LINES:]) or "it said nothing"

    def _note(self, name: str) -> Path:
        return self._state.processes / f"{name}.json"

    def _said(self, name: str) -> Path:
        return self._state.processes / name


def began(process: int) -> int | None:
    """When a process started, in clock ticks; None if there is none. One that only waits to be reaped is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(") ")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
