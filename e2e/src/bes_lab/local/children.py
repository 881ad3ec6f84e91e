"""Child processes that never outlive their parent: started together, watched together, ended together."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bes_lab.errors import ChildError, StartError

TERM_SECONDS = 5.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program: ask Linux to kill it when its parent ends, however it ends."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended between fork and prctl
            os._exit(1)

    return before_exec


def bes(*arguments: str) -> tuple[str, ...]:
    """The command line of `bes` in this very interpreter, whatever is on the PATH."""
    return (sys.executable, "-P", "-c", "import sys; from bes_api.command import main; sys.exit(main())", *arguments)


@dataclass(frozen=True)
class Child:
    """One process and the file that holds what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log, for the error that explains its death."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (it said nothing)"

    def ended(self) -> str | None:
        """None while it runs; else how it ended, with the tail of its log."""
        code = self.process.poll()
        if code is None:
            return None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}; the end of {self.log}:\n{self.tail()}"


class Children:
    """A context: leaving it ends every process that was started in it. Only usable from the main thread.

    Each child has a process group of its own, so that Ctrl-C reaches the parent alone, which ends them in order.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def start(self, name: str, command: Sequence[str], log: Path) -> Child:
        """Start ``command`` with its output in ``log``."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - no threads are started before children
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def stop(self, child: Child) -> None:
        """End one child that is no longer wanted, and forget it."""
        self.signal(child, signal.SIGTERM, TERM_SECONDS)

    def signal(self, child: Child, number: int, seconds: float = 60.0) -> int:
        """Send a signal that ends one child, wait, and forget it; the exit code (negative: the signal's number).

        One that has not ended after ``seconds`` is killed.
        """
        child.process.send_signal(number)
        try:
            child.process.wait(seconds)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        self._children.remove(child)
        return child.process.returncode

    def check(self) -> None:
        """Raise ChildError if any child has ended."""
        for child in self._children:
            if how := child.ended():
                raise ChildError(how)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_seconds: float) -> None:
        """Return when ``ready()`` holds. Raises StartError if a child ends first or time is up."""
        limit = time.monotonic() + timeout_seconds
        while not ready():
            for child in self._children:
                if how := child.ended():
                    raise StartError(how)
            if time.monotonic() > limit:
                tails = "\n".join(f"{child.log}:\n{child.tail()}" for child in self._children)
                raise StartError(f"gave up after {timeout_seconds:g} s of waiting until {what}\n{tails}")
            time.sleep(0.01)

    def end(self) -> None:
        """Ask every child to end, wait, kill what is left, and reap them all. A second Ctrl-C does not disturb it."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
        limit = time.monotonic() + TERM_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._children.clear()
