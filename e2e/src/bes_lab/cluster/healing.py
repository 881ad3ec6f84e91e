"""`make cluster-healing`: what a service on a cluster goes through while clients ask, and what they see of it.

Each phase does one thing to the installation, waits until everything is again as desired, and counts how every request
ended that was sent meanwhile. Clients send through the routers' Service, from the node.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bes_api.command import exit_code_of
from bes_lab.cluster.demo import SERVICE, TOPIC, the_cluster
from bes_lab.cluster.installation import Installation
from bes_lab.cluster.phases import Phase, phases
from bes_lab.cluster.stage import HEAL_SECONDS, Stage
from bes_lab.errors import TargetError
from bes_lab.faults.seen import Kind as Ending
from bes_lab.faults.traffic import Tally
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

COMMAND = "make cluster-healing"
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 4.0
BACK_BAR = "<= 10"
NOBODY = Tally(sent={}, kinds={}, notes=(), late_seconds=0.0)


@dataclass(frozen=True)
class Outcome:
    """What came of a phase."""

    phase: Phase
    tally: Tally
    away_seconds: float | None
    """Until what was deleted was there again."""
    healed_seconds: float

    @property
    def answered(self) -> int:
        """Requests that were answered as they should be."""
        return self.tally.kinds.get(Ending.ANSWERED, 0)

    @property
    def others(self) -> int:
        """Requests that were not."""
        return sum(self.tally.kinds.values()) - self.answered


def carry_out(stage: Stage, phase: Phase, seed: int) -> Outcome:
    """Let it happen under traffic."""
    clients: AbstractContextManager[list[Tally]] = nullcontext([NOBODY]) if phase.readdressed else stage.clients(seed)
    with clients as tallies:
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        away = phase.act(stage)
        if phase.readdressed:
            stage.on.until("a request is served at the new address", stage.on.serves, HEAL_SECONDS)
        stage.on.until("everything is as desired again", stage.whole, HEAL_SECONDS)
        healed = time.monotonic() - began
        time.sleep(AFTER_SECONDS)
    return Outcome(phase, tallies[0], away, healed)


def records_of(made: Recorder, outcomes: Sequence[Outcome]) -> Iterator[Record]:
    """Requests that were not answered, how long what was deleted was away, how long each phase took."""
    for each in outcomes:
        name, title = each.phase.name, each.phase.title
        if not each.phase.readdressed:
            claim = f"{title}: requests not answered, of {each.answered + each.others}"
            yield made.record(f"healing.{name}.failed", claim, each.others, "requests", each.phase.bar)
        if each.away_seconds is not None:
            claim = f"{title}: until the operator had made it again"
            yield made.record(f"healing.{name}.away", claim, each.away_seconds, "s", BACK_BAR)
        whole = "until all was as desired" + (", and requests were served" if each.phase.readdressed else "")
        yield made.record(f"healing.{name}.seconds", f"{title}: {whole}", each.healed_seconds, "s")


def main() -> int:
    """Exit code 0 where every bar is met, 1 where one is not."""
    parser = argparse.ArgumentParser(prog="bes_lab.cluster.healing", description=__doc__)
    parser.add_argument("--service", type=Path, default=SERVICE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--only", metavar="PHASE,...", help=f"of {', '.join(each.name for each in phases())}")
    parser.add_argument("--installed", action="store_true", help="on the cluster and installation that are there")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up; `bes cluster down` ends it")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help=f"write records there, such as {RESULTS}")
    given = parser.parse_args()
    return exit_code_of("bes_lab.cluster.healing", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    chosen = [phase for phase in phases() if not given.only or phase.name in given.only.split(",")]
    if not chosen:
        raise TargetError(f"--only {given.only}: no such phase; there are {', '.join(each.name for each in phases())}")
    on = Installation(given.service, the_cluster(console), lambda line: console.print(f"== {line}", markup=False))
    outcomes = []
    try:
        if not given.installed:
            on.prepare()
            on.install()
        with tempfile.TemporaryDirectory(prefix="bes-healing-") as folder:
            stage = Stage(on, Path(folder))
            stage.patch('{"spec": {"policy": {"type": "DeadlineAware"}}}')
            on.until("everything is as desired", stage.whole, HEAL_SECONDS)
            for number, phase in enumerate(chosen):
                outcomes.append(carry_out(stage, phase, number + 1))
                _tell(outcomes[-1], console)
    finally:
        if not given.keep:
            on.cluster.down()
    made = recorder(COMMAND, seed=1, packages=("kopf", "kubernetes"))
    records = list(records_of(made, outcomes))
    if given.results is not None:
        write(TOPIC, records, given.results)
    return 1 if any(record.met is False for record in records) else 0


def _tell(outcome: Outcome, console: Console) -> None:
    kinds = [f"{count} {kind}" for kind, count in sorted(outcome.tally.kinds.items())]
    away = [] if outcome.away_seconds is None else [f"made again after {outcome.away_seconds:.1f} s"]
    whole = f"whole after {outcome.healed_seconds:.1f} s"
    short = "SHORT " if outcome.phase.bar and outcome.others else ""
    console.print(f"{short}{outcome.phase.title}: {', '.join([*kinds, *away, whole])}", markup=False)
    for note in outcome.tally.notes[:5]:
        console.print(f"    {note[:200]}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
