"""The command `bes`: finds its subcommands among entry points and imports only the one that was asked for."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from types import FrameType
from typing import NoReturn

from bes_api.errors import BestEffortError, MissingExtraError, OutputError
from bes_api.output import FULL, unwritable

ENTRY_POINT_GROUP = "best_effort_serving.commands"
DISTRIBUTION = "best-effort-serving"
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PIPE_CLOSED = 141  # 128 + SIGPIPE
TERMINATED = 143  # 128 + SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, so that whatever it had started or half written goes with it."""


@dataclass(frozen=True)
class Command:
    """One subcommand: what an entry point of the group ``best_effort_serving.commands`` names."""

    name: str
    summary: str
    extra: str
    """The extra of the distribution that brings what ``run`` imports."""
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Does the work and returns the exit code. Raises BestEffortError for what the caller can mend."""


@dataclass(frozen=True)
class Listing:
    """What `bes --help` says about a subcommand without importing it, and the extra to name if the import fails."""

    summary: str
    extra: str


LISTINGS: Mapping[str, Listing] = {
    "demo": Listing("train, serve a real burst on emulated GPUs, and compare policies", "lab"),
    "local": Listing("run a service on this machine: emulated GPUs and the router", "lab"),
    "train": Listing("learn a policy for a service", "training"),
    "evaluate": Listing("compare policies on held-out workloads in the simulator", "training"),
    "replay": Listing("replay a trace against a URL, open loop", "lab"),
    "profile": Listing("measure a running engine and fit its latency profile", "lab"),
    "router": Listing("route requests to the engines of one service", "router"),
    "operator": Listing("make BestEffortServices real on Kubernetes", "operator"),
    "engine": Listing("emulate one GPU with every engine placed on it", "lab"),
    "cluster": Listing("a Kubernetes on this machine to try it on", "lab"),
    "bench": Listing("measure router, decisions, simulator and learners", "lab"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``bes``; the exit code is the subcommand's, or as `exit_code_of` says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return exit_code_of("bes", lambda: _dispatch(arguments, found))


def exit_code_of(program: str, body: Callable[[], int]) -> int:
    """Run a program's ``body``: its exit code, 2 for what the caller can mend, 3 for a missing extra, 130, 143, 141.

    The one place where errors and interrupts become a line for the caller and an exit code.
    """
    try:
        _end_on_sigterm()
        return body()
    except BestEffortError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one place that speaks to the caller
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        ended = isinstance(interrupt, Terminated)
        said = "ended by SIGTERM" if ended else "interrupted"
        print(f"{program}: {said}", file=sys.stderr)  # noqa: T201 - the one place that speaks to the caller
        return TERMINATED if ended else INTERRUPTED
    except BrokenPipeError:  # whoever read our output has left (`bes ... | head`): no fault, nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = unwritable(error.filename or "the output", error)
        print(full, file=sys.stderr)  # noqa: T201 - the one place that speaks to the caller
        return OutputError.exit_code


def _end_on_sigterm() -> None:
    """Commands that serve until they are told to stop put a handler of their own in its place."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _dispatch(arguments: list[str], found: Mapping[str, EntryPoint]) -> int:
    parser = argparse.ArgumentParser(
        prog="bes",
        description="Learned best-effort serving: per request, the model whose quality still arrives in time.",
    )
    parser.add_argument("--version", action="version", version=f"bes {version(DISTRIBUTION)}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = arguments[0] if arguments else None
    command: Command | None = None
    for name in sorted(found, key=_rank):
        if name == asked:
            command = _load(found[name])
            command.configure(subparsers.add_parser(name, help=command.summary, description=command.summary))
        else:
            subparsers.add_parser(name, help=LISTINGS[name].summary if name in LISTINGS else None)
    parsed = parser.parse_args(arguments)
    if command is None:  # argparse has left for --help, --version and unknown names
        parser.error(f"unknown command {asked!r}")
    return command.run(parsed)


def _rank(name: str) -> tuple[int, str]:
    order = list(LISTINGS)
    return (order.index(name) if name in LISTINGS else len(order), name)


def _load(point: EntryPoint) -> Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if (
            missing.startswith("bes_") and "." in missing
        ):  # our own module in a room that is here: a fault, not an extra
            raise
        extra = LISTINGS[point.name].extra if point.name in LISTINGS else point.name
        raise MissingExtraError(
            f"`bes {point.name}` needs the package {missing!r}: install {DISTRIBUTION}[{extra}]"
        ) from error
    if not isinstance(command, Command):
        raise TypeError(f"entry point {point.name} = {point.value} is not a bes_api.command.Command")
    return command
