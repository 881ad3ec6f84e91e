"""`python -m bes_lab.cluster.faults`: the operator behind a faulty API server, every call in turn, and its records.

A real etcd, API server and controller manager on loopback; no nodes, so that nothing gets ready.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bes_api.command import exit_code_of
from bes_api.output import prepare_folder
from bes_lab.cluster.control_plane import NEEDED, ControlPlane, control_plane
from bes_lab.cluster.faults.cases import Making, Verdict, cases_of, in_time, play, play_from_start, undisturbed
from bes_lab.cluster.faults.outage import Outage, outage
from bes_lab.cluster.faults.stage import Stage, staged
from bes_lab.cluster.faults.watches import RESYNC_SECONDS, WATCH_CASES, play_watches
from bes_lab.cluster.programs import the_programs
from bes_lab.errors import ClusterError, TargetError
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

TOPIC = "operator"
COMMAND = "make test-faults"
OUTAGE_SECONDS = 300.0
IDLE_LISTINGS = 10
PACKAGES = ("kopf", "kubernetes", "aiohttp", "pydantic")
_MOST_TIMES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every bar is met, 1 where one is not, 2 or 4 for what the caller can mend."""
    parser = argparse.ArgumentParser(prog="bes_lab.cluster.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, help="begin no case later than that (default: all cases are played)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of cases (default %(default)d)")
    parser.add_argument("--lanes", type=int, default=6, help="operators at once, 2 or more (default %(default)d)")
    parser.add_argument(
        "--outage-seconds",
        type=float,
        default=OUTAGE_SECONDS,
        help="how long everything is answered by 500 (default %(default)g; 0: not at all)",
    )
    parser.add_argument("--outage-only", action="store_true", help="only that")
    parser.add_argument("--folder", type=Path, help="where logs stay (default: nowhere)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.cluster.faults", lambda: _main(given))


def _main(arguments: argparse.Namespace) -> int:
    if (
        arguments.lanes < 2
        or arguments.outage_seconds < 0
        or (arguments.minutes is not None and arguments.minutes <= 0)
    ):
        raise TargetError("--lanes: expected 2 or more; --outage-seconds: 0 or more; --minutes: more than 0")
    prepare_folder("--out", arguments.out)
    programs = the_programs()
    if missing := programs.missing(NEEDED):
        raise ClusterError(f"there is no {', '.join(missing)}: run `make kubernetes`")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="bes-operator-faults-"))
    try:
        with control_plane(folder, programs) as plane:
            records = asyncio.run(_records(plane, folder, arguments))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    _say(f"recorded in {write(TOPIC, records, arguments.out)}")
    short = [record for record in records if record.met is False]
    for record in short:
        _say(f"SHORT: {record.claim}: {record.measured} {record.unit}, bar {record.bar}")
    return 1 if short else 0


async def _records(plane: ControlPlane, folder: Path, arguments: argparse.Namespace) -> list[Record]:
    sampled = "" if arguments.minutes is None else f' FAULTS="--minutes {arguments.minutes:g}"'
    made = recorder(COMMAND + sampled, arguments.seed, PACKAGES)
    records = []
    async with staged(plane, folder / "operators") as stage:
        if not arguments.outage_only:
            records += await _matrix(stage, made, arguments)
        if arguments.outage_seconds:
            _say(f"{arguments.outage_seconds:g} s of 500")
            records += outage_records(made, await outage(stage, arguments.outage_seconds), arguments.outage_seconds)
    return records


async def _matrix(stage: Stage, made: Recorder, arguments: argparse.Namespace) -> list[Record]:
    making = await undisturbed(stage, IDLE_LISTINGS)
    running, started = cases_of(making)
    watched = list(WATCH_CASES)
    chance = random.Random(arguments.seed)
    chance.shuffle(running)  # a run that is cut short is a sample of everything
    chance.shuffle(started)
    chance.shuffle(watched)
    _say(
        f"{len(running)} cases for operators that run, {len(started)} for ones that are started, {len(watched)} watches"
    )
    stop_at = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    half = arguments.lanes // 2
    calls, starts, watches = await asyncio.gather(
        play(stage, making, in_time(running, stop_at), arguments.lanes - half, _say),
        play_from_start(stage, making, in_time(started, stop_at), half, _say),
        play_watches(stage, making.outcome, in_time(watched, stop_at), _say),
    )
    return [*making_records(made, making), *verdict_records(made, making, [*calls, *starts], watches)]


def making_records(made: Recorder, making: Making) -> list[Record]:
    """Of an operator that nothing disturbs."""
    return [
        made.record(
            "operator-making-calls",
            f"making one service with {len(making.outcome.objects)} children: calls about its objects; to start, "
            f"{len(making.start_calls)} more",
            len(making.service_calls),
            "calls",
        ),
        made.record(
            "operator-idle-writes",
            f"{making.idle_listings} passes in which nothing changed: writes, Leases and Events apart",
            making.idle_writes,
            "",
            "== 0",
        ),
    ]


def verdict_records(
    made: Recorder, making: Making, verdicts: Sequence[Verdict], watched: Sequence[Verdict]
) -> list[Record]:
    """Of all cases together."""
    struck = [verdict for verdict in verdicts if verdict.struck]
    killed = [verdict for verdict in struck if verdict.case.startswith("killed")]
    plain = [verdict for verdict in struck if not verdict.case.startswith("killed")]
    records = []
    for key, what, cases in (
        ("calls", "one call answered 409, 429, 500 or never though applied, or cut", plain),
        ("kills", "the operator killed after one call and started again", killed),
        ("watches", "a child deleted while its watch was down, late, or told events twice and out of order", watched),
    ):
        if not cases:
            continue
        wrong = sum(bool(verdict.problems) for verdict in cases)
        most = max(cases, key=lambda verdict: verdict.seconds)
        records += [
            made.record(f"operator-{key}-cases", f"{what}: cases", len(cases), ""),
            made.record(
                f"operator-{key}-wrong",
                f"{what}: cases that did not come to the same objects and conditions, without orphans or duplicates",
                wrong,
                "",
                "== 0",
            ),
            made.record(f"operator-{key}-longest", f"{what}: longest until settled ({most.case})", most.seconds, "s"),
        ]
    if struck:
        busiest = max(struck, key=lambda verdict: verdict.calls)
        records.append(
            made.record(
                "operator-most-calls",
                f"the most calls about the service's objects in a case ({busiest.case}), times those of a service that "
                "nothing disturbs",
                busiest.calls / len(making.service_calls),
                "times",
                f"<= {_MOST_TIMES}",
            )
        )
    by_watch = [verdict for verdict in watched if verdict.seconds < RESYNC_SECONDS and not verdict.problems]
    if watched:
        claim = (
            f"children deleted behind a disturbed watch that healed before the next resync could ({RESYNC_SECONDS:g} s)"
        )
        records.append(made.record("operator-watches-soon", claim, 100 * len(by_watch) / len(watched), "%"))
    return records


def outage_records(made: Recorder, found: Outage, seconds: float) -> list[Record]:
    """Of minutes of 500."""
    what = f"{seconds:g} s of 500 to every call"
    return [
        made.record("operator-outage-seconds", "the outage: every call answered by 500", seconds, "s", ">= 300"),
        made.record("operator-outage-asked", f"{what}: requests of the operator meanwhile", found.asked, ""),
        made.record(
            "operator-outage-recovered",
            f"{what}, then well: until children are applied and the status written",
            found.recovered_seconds,
            "s",
            "<= 60",
        ),
        made.record("operator-outage-deleted", f"{what}: children deleted or replaced", found.replaced, "", "== 0"),
        made.record("operator-outage-trained", f"{what}: trainings begun", found.trained, "", "== 0"),
        made.record(
            "operator-outage-restarts", f"{what}: the operator's process ended", float(found.ended), "", "== 0"
        ),
    ]


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
