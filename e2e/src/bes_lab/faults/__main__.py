"""`python -m bes_lab.faults`: break a service under load in every way there is, and record what it cost its clients."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bes_api.command import exit_code_of
from bes_api.documents import the_service
from bes_api.output import prepare_folder, write_whole
from bes_api.router_config import DirectLoad
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab.errors import TargetError
from bes_lab.faults.campaign import Campaign, run
from bes_lab.faults.hostile.bombard import bombard
from bes_lab.faults.judge import Verdict
from bes_lab.faults.steps import Step, all_steps
from bes_lab.local.prometheus import LocalPrometheus, find_prometheus
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

TOPIC = "faults"
COMMAND = "make faults"
ARTIFACT = Path("docs/results/policies/opt-paper/policy")
SCRAPE_SECONDS = 1.0
PACKAGES = ("uvloop", "httptools", "aiohttp", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every bar is met, 1 where one is not, 2 for what the caller can mend."""
    given = _parser().parse_args(arguments)
    return exit_code_of("bes_lab.faults", lambda: _main(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bes_lab.faults", description=__doc__)
    parser.add_argument("--service", type=Path, default=Path("examples/opt-paper.yaml"), help="default %(default)s")
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, help="the policy that serves (default %(default)s)")
    parser.add_argument("--only", metavar="NAME,NAME", help="these faults; `list` shows them")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second (default %(default)g)")
    parser.add_argument("--seconds", type=float, default=4.0, help="before, during, after each (default %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals (default %(default)d)")
    parser.add_argument(
        "--hostile",
        type=int,
        default=5000,
        metavar="N",
        help="so many hostile requests, and as many hostile answers, after the faults (default %(default)d; 0: none)",
    )
    parser.add_argument("--folder", type=Path, help="where logs and what clients saw stay (default: nowhere)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records (default %(default)s)")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    for name in ("rate", "seconds"):
        if not 0.1 <= getattr(arguments, name) <= 1000.0:
            raise TargetError(f"--{name} {getattr(arguments, name):g}: expected 0.1 to 1000")
    scenario = scenario_of(*the_service(arguments.service))
    steps = _chosen(all_steps(scenario.models[-1].name, scenario.models[-1].max_replicas), arguments.only)
    if steps is None:
        return 0
    prepare_folder("--out", arguments.out)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="bes-faults-"))
    try:
        verdicts = run(_campaign(arguments, scenario, folder), steps, _say)
        write_whole(folder / "verdicts.json", json.dumps([each.as_json() for each in verdicts], indent=2) + "\n")
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    made = recorder(COMMAND, arguments.seed, PACKAGES)
    records = [*records_of(made, steps, verdicts), *_hostile(arguments, made)]
    _say(f"recorded in {write(TOPIC, records, arguments.out)}")
    short = [record for record in records if record.met is False]
    for record in short:
        _say(f"SHORT: {record.claim}: {record.measured:g} {record.unit}, bar {record.bar}")
    return 1 if short else 0


def _chosen(steps: list[Step], only: str | None) -> list[Step] | None:
    if only == "list":
        for step in steps:
            _say(f"{step.name:<24}{step.title}")
        return None
    if find_prometheus() is None:
        _say("SKIPPED: there is no Prometheus here (`make prometheus` fetches one), so its outage is not tried")
        steps = [step for step in steps if not step.needs_prometheus]
    wanted = only.split(",") if only else [step.name for step in steps]
    if unknown := set(wanted) - {step.name for step in steps}:
        raise TargetError(f"--only {', '.join(sorted(unknown))}: no such fault here; `--only list` shows them")
    return [step for step in steps if step.name in wanted]


def _campaign(arguments: argparse.Namespace, scenario: Scenario, folder: Path) -> Campaign:
    binary = find_prometheus()
    load = DirectLoad(interval_seconds=SCRAPE_SECONDS) if binary is None else LocalPrometheus(binary, SCRAPE_SECONDS)
    seconds = arguments.seconds
    return Campaign(
        scenario, folder, load, arguments.artifact, arguments.rate, seconds, seconds, seconds, arguments.seed
    )


def records_of(made: Recorder, steps: Sequence[Step], verdicts: Sequence[Verdict]) -> list[Record]:
    """Three claims a fault, and two about all of them."""
    records = []
    for step, verdict in zip(steps, verdicts, strict=True):
        excuse = {"begun": " but those whose answer had begun", "own": " but those in flight at the router that ended"}
        but = excuse.get(step.excuses, " but those that the engine left waiting" if step.excuses == "silent" else "")
        name = verdict.name
        records += [
            made.record(f"fault-{name}-failed", f"{step.title}: requests failed{but}", verdict.failed, "", "== 0"),
            made.record(f"fault-{name}-cost", f"{step.title}: requests that it cost", verdict.excused, ""),
            made.record(
                f"fault-{name}-performance",
                f"{step.title}: performance while it lasts less before",
                verdict.performance_during - verdict.performance_before,
                "points",
            ),
            made.record(
                f"fault-{name}-afterwards",
                f"{step.title}: performance afterwards less before",
                verdict.performance_after - verdict.performance_before,
                "points",
            ),
        ]
    missed = sum(verdict.hits == 0 for verdict in verdicts)
    for key, claim, figure in (
        ("missed", "faults that no request met", missed),
        ("spoiled", "answers torn or another request's", sum(each.spoiled for each in verdicts)),
        ("in-flight", "requests still counted in flight afterwards", sum(each.in_flight_after for each in verdicts)),
        ("unaccounted", "requests that clients and routers count differently", sum(v.unaccounted for v in verdicts)),
    ):
        records.append(made.record(f"faults-{key}", f"all {len(verdicts)} faults: {claim}", figure, "", "== 0"))
    return records


def _hostile(arguments: argparse.Namespace, made: Recorder) -> list[Record]:
    records = []
    for key, what in (("requests", "hostile requests"), ("answers", "hostile answers of engines")):
        if not arguments.hostile:
            break
        _say(f"{arguments.hostile} {what}")
        toll = bombard(arguments.hostile, arguments.seed, answers=key == "answers")
        sent = toll.given if key == "answers" else toll.hostile
        statuses = ", ".join(f"{count} x {status or 'none'}" for status, count in toll.statuses.most_common())
        _say(f"    {sent} {what} ({statuses}); good requests: {toll.good}, {toll.refused} of them refused")
        for line in toll.amiss[:20]:
            _say(f"    {line[:300]}")
        figures = (
            ("crashes", "exceptions in the router", len(toll.crashes)),
            ("foreign", "requests answered with another's bytes", len(toll.foreign)),
            ("failed", "good requests without an answer or a clear error", len(toll.failed)),
            ("improper", "messages that reached an engine and should not", len(toll.improper)),
            ("leaked", "leases, tasks, descriptors and connections left", sum(toll.leaked.values())),
        )
        records.append(made.record(f"hostile-{key}-sent", f"{what} over real sockets", sent, "", ">= 5000"))
        records += [
            made.record(f"hostile-{key}-{name}", f"{what}: {claim}", figure, "", "== 0")
            for name, claim, figure in figures
        ]
        records.append(
            made.record(
                f"hostile-{key}-serves", f"{what}: the router serves after", float(toll.serves_after), "", "== 1"
            )
        )
    return records


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
