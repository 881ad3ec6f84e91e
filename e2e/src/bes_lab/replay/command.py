"""`bes replay TRACE URL`: an open loop against a router or an engine."""

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bes_api.command import Command
from bes_api.output import prepare_folder
from bes_lab import clips
from bes_lab.clips import DEMO_CLIP
from bes_lab.errors import TargetError
from bes_lab.replay import report
from bes_lab.replay.bodies import bodies_of
from bes_lab.replay.client import send_all
from bes_lab.replay.measured import Target
from bes_lab.replay.outcomes import judge, summarize
from bes_lab.replay.trace import Playing, arrivals_of, mix_of, read, usual_speed
from bes_lab.scenario_file import read_scenario

INVALID = 5
"""Exit code of a run that may not be used."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes replay`."""
    parser.add_argument(
        "trace", nargs="?", help=f"a name from --list (such as {DEMO_CLIP}), a JSON file of that form, or a CSV"
    )
    parser.add_argument("url", nargs="?", help="http://HOST:PORT of a router (or of one engine, with --model)")
    parser.add_argument("--list", action="store_true", help="show the packaged traces and play none (also with --json)")
    parser.add_argument(
        "--service",
        type=Path,
        metavar="FILE",
        help="the BestEffortService (or scenario) whose tasks, lengths, qualities and deadlines judge the run",
    )
    parser.add_argument("--rate", type=float, help="mean requests/s to scale to (default: as recorded)")
    parser.add_argument("--speed", type=float, help="times as fast (default: a clip's window as a second, else 1)")
    parser.add_argument("--seed", type=int, help="of arrivals and tasks (default: the clip's, else 0)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="stop sending after that long")
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="[SECOND:]TASK=WEIGHT,...",
        help="shares of the tasks from a second on; repeat it for shifts (default: all alike)",
    )
    parser.add_argument("--model", help="name this model instead of the task (for an engine without a router)")
    parser.add_argument("--stream", action="store_true", help="ask for streamed answers")
    parser.add_argument("--drain", type=float, default=10.0, help="seconds to wait after the last send (default 10)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write replay.json and replay.png there")


def run(arguments: argparse.Namespace) -> int:
    """0; 5 if the run was invalid by its own lateness."""
    if arguments.list:
        return _list(as_json=arguments.json)
    _check(arguments)
    Target.of(arguments.url)
    scenario = read_scenario(arguments.service)
    trace = read(arguments.trace)
    playing = Playing(
        speed=arguments.speed or usual_speed(trace),
        rate=arguments.rate,
        seed=arguments.seed if arguments.seed is not None else trace.seed,
        mix=mix_of(arguments.mix, scenario.tasks),
        duration_seconds=arguments.duration,
    )
    arrivals = arrivals_of(trace, playing, scenario.tasks)
    if not arrivals.time.size:
        raise TargetError("nothing to send: the trace has no request in that time at that rate")
    console = Console(stderr=True)
    seconds = float(arrivals.time[-1])
    with report.progress(f"{arrivals.time.size} requests to {arguments.url}", seconds, console):
        bodies = bodies_of(arrivals, scenario.tasks, arguments.model, stream=arguments.stream)
        measured = send_all([arguments.url], arrivals.time.tolist(), bodies, arguments.drain)
    outcomes = judge(scenario, arrivals, measured)
    summary = summarize(scenario, outcomes, measured)
    title = (
        f"{arguments.trace}: {arrivals.time.size / max(seconds, 1e-9):.1f} requests/s on average, seed {playing.seed}"
    )
    if arguments.out is not None:  # before anything is printed: a reader that leaves early costs no file
        document = {"trace": arguments.trace, "seed": playing.seed, **summary.as_json()}
        report.write_json(document, arguments.out / "replay.json")
        report.draw(scenario, outcomes, title, arguments.out / "replay.png")
    if arguments.json:
        print(report.to_json(summary.as_json()), file=sys.stdout)  # noqa: T201 - what --json promises
    else:
        report.print_summary(summary, title, Console())
    return 0 if summary.valid else INVALID


def _list(*, as_json: bool) -> int:
    found = clips.listed()
    if as_json:
        print(report.to_json([asdict(each) for each in found]), file=sys.stdout)  # noqa: T201 - what --json promises
    else:
        report.print_listed(found, Console())
    return 0


def _check(arguments: argparse.Namespace) -> None:
    wanted = {"TRACE": arguments.trace, "URL": arguments.url, "--service FILE": arguments.service}
    if missing := [name for name, value in wanted.items() if value is None]:
        raise TargetError(
            f"{missing[0]} is missing: bes replay TRACE URL --service FILE; `bes replay --list` shows the packaged "
            "traces"
        )
    for name in ("rate", "speed", "duration"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise TargetError(f"--{name} {value:g}: expected a number above 0")
    if not 0 <= arguments.drain < math.inf:
        raise TargetError(f"--drain {arguments.drain:g}: expected seconds of at least 0")
    if arguments.seed is not None and arguments.seed < 0:
        raise TargetError(f"--seed {arguments.seed}: expected a whole number of at least 0")
    if arguments.model is not None and not arguments.model.isprintable():
        raise TargetError(f"--model {arguments.model!r}: expected a model's name")
    if arguments.out is not None:
        prepare_folder("--out", arguments.out)  # now: after the run it would cost the run


REPLAY = Command("replay", "replay a trace against a URL, open loop", "lab", configure, run)
