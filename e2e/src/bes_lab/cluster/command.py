"""`bes cluster`: a Kubernetes to try the project on, on this machine."""

import argparse
import contextlib
import fcntl
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bes_api.command import Command
from bes_api.documents import the_service
from bes_lab.cluster import devices
from bes_lab.cluster.images import built_archives
from bes_lab.cluster.kind import Kind, docker_answers
from bes_lab.cluster.layout import MAX_NODES, the_state
from bes_lab.cluster.native import Native
from bes_lab.cluster.programs import the_programs
from bes_lab.errors import ClusterError

_CHANGES = ("up", "down", "load-image", "kill", "start")
EPILOG = """\
Where a Docker engine answers, the cluster is kind's; else, or with --native, it runs on this machine as root:
containerd, kubelet and the control plane in network namespaces without a route to anywhere. `down` leaves nothing
behind. Once per machine: `make kubernetes`, and as root `make cluster-packages`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes cluster`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--native", action="store_true", help="without Docker, even where it answers")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = actions.add_parser("up", help="start it, or what is missing of it, and wait until it is ready")
    up.add_argument("--nodes", type=int, choices=range(1, MAX_NODES + 1), default=1, help="how many (default 1)")
    up.add_argument(
        "--for",
        dest="services",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="advertise the GPUs that this BestEffortService asks for; may be repeated",
    )
    up.add_argument("--resource", action="append", default=[], metavar="NAME=COUNT", help="advertise these GPUs")
    down = actions.add_parser("down", help="end it; nothing stays but the images that it held")
    down.add_argument("--purge", action="store_true", help="not even those")
    status = actions.add_parser("status", help="its processes, nodes and images; exit code 4 where something is wrong")
    status.add_argument("--json", action="store_true", help="for programs")
    load = actions.add_parser("load-image", help="let every node hold the images of docker archives")
    load.add_argument("archives", nargs="*", type=Path, metavar="ARCHIVE", help="default: those of `make images`")
    for name, about in (("kubectl", "run kubectl as its administrator"), ("exec", "run a program on its first node")):
        passed = actions.add_parser(name, help=about, add_help=False, prefix_chars="\0")  # every word is the program's
        passed.add_argument("arguments", nargs=argparse.REMAINDER)
    for name, about in (("kill", "kill one of its processes (native)"), ("start", "start it again (native)")):
        actions.add_parser(name, help=about).add_argument("daemon", help="as `status` names it")


def run(arguments: argparse.Namespace) -> int:
    """Do it; progress on stderr, what was asked for on stdout."""
    cluster = _cluster(native=arguments.native)
    with _in_turn() if arguments.action in _CHANGES else contextlib.nullcontext():
        return _act(cluster, arguments)


def _act(cluster: Native | Kind, arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "up":
            cluster.up(arguments.nodes, _advertised(arguments))
        case "down":
            cluster.down(purge=arguments.purge)
        case "status":
            return _status(cluster, as_json=arguments.json)
        case "load-image":
            for archive in arguments.archives or _built():
                _say(f"loading {archive.name}")
                cluster.load(archive)
        case "kubectl":
            return _ran(cluster.inside("kubectl", *arguments.arguments))
        case "exec":
            words = arguments.arguments[1:] if arguments.arguments[:1] == ["--"] else arguments.arguments
            if not words:
                raise ClusterError("exec: name a program, as in `bes cluster exec -- helm list`")
            return _ran(cluster.inside(*words))
        case "kill" | "start":
            _disturb(cluster, arguments.action, arguments.daemon)
    return 0


@contextlib.contextmanager
def _in_turn() -> Iterator[None]:
    """One change at a time: whoever comes second waits."""
    lock = the_state().folder.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _cluster(*, native: bool) -> Native | Kind:
    if not native and docker_answers():
        return Kind(the_state(), _say)
    return Native(the_state(), the_programs(), _say)


def _advertised(arguments: argparse.Namespace) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for file in arguments.services:
        service, _ = the_service(file)
        total.update(devices.requested(service))
    total.update(dict(devices.stated(given) for given in arguments.resource))
    return total


def _built() -> list[Path]:
    archives = sorted(built_archives().glob("*.tar"))
    if not archives:
        raise ClusterError("no image was built: `make images`, or name an archive")
    return archives


def _status(cluster: Native | Kind, *, as_json: bool) -> int:
    status = cluster.status()
    if as_json:
        print(json.dumps(status, indent=1))  # noqa: T201 - what was asked for
    else:
        for line in _lines(status):
            print(line)  # noqa: T201 - what was asked for
    return 0 if status["up"] else ClusterError.exit_code


def _lines(status: Mapping[str, object]) -> Iterator[str]:
    yield f"{status['kind']}: {'up' if status['up'] else 'down'}"
    for part, good, bad in (("daemons", "runs", "has ended"), ("nodes", "ready", "not ready")):
        found = status[part]
        assert isinstance(found, Mapping)  # noqa: S101 - made in this room
        yield from (f"  {name}: {good if well else bad}" for name, well in found.items())
    images = status["images"]
    assert isinstance(images, list)  # noqa: S101 - made in this room
    yield from (f"  image {name}" for name in images)


def _disturb(cluster: Native | Kind, action: str, daemon: str) -> None:
    if isinstance(cluster, Kind):
        raise ClusterError(f"{action}: kind's nodes are containers; use docker, or a cluster made with --native")
    if daemon not in cluster.daemons.names():
        raise ClusterError(f"no daemon {daemon}; there are {', '.join(cluster.daemons.names()) or 'none'}")
    if action == "kill":
        cluster.daemons.end(daemon, signal.SIGKILL)
    else:
        cluster.daemons.start_again(daemon)


def _ran(command: Sequence[str]) -> int:
    """Its exit code; as shells say it where a signal ended it."""
    code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code


def _say(line: str) -> None:
    print(f"== {line}", file=sys.stderr)  # noqa: T201 - progress


CLUSTER = Command("cluster", "a Kubernetes on this machine to try it on", "lab", configure, run)
