"""Old load figures in life: the demo's clip over HTTP with figures from a real Prometheus, beside `direct`.

``python -m bes_lab.live_staleness`` plays it at one minute per ten seconds, with one router, two and four, and writes
docs/results/staleness.json. Each run is a record as soon as it is known; differences to `direct` with as many routers,
and to the simulator, are worked out from the runs that are recorded, so that a subset can be repeated.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
from rich.console import Console

from bes_api.command import exit_code_of
from bes_api.documents import the_service
from bes_api.intervals import paired_interval
from bes_api.scenario_of import scenario_of
from bes_lab import prediction
from bes_lab.demo import Show, show_of
from bes_lab.errors import TargetError
from bes_lab.live import Contender, Stage, run_live
from bes_lab.local.figures import Figures, figures_of
from bes_lab.local.policies import artifact_choice
from bes_lab.local.prometheus import LocalPrometheus, the_prometheus
from bes_lab.results import RESULTS, Record, Recorder, read, recorder, write
from bes_lab.staleness import LAG_SECONDS, SPLITS
from bes_training.simulation.circumstances import Circumstances, LoadFigures, Poll

TOPIC = "staleness"
SECONDS_PER_MINUTE = 10.0
REPEATS, ATTEMPTS, DRAWS = 3, 3, 5
SHARES: Mapping[str, tuple[float, ...]] = {"1": (1.0,), **SPLITS}
INTERVALS = {"1s": 1.0, "5s": 5.0, "15s": 15.0, "stopped": 1.0}
"""Scrape interval by source; ``stopped``: Prometheus goes after a tenth of the clip and stays away."""
DIRECT = "direct"
SOURCES = (DIRECT, *INTERVALS)
OUTAGE_AFTER = 0.1
FIDELITY_POINTS = 3.0
SAMPLE = Path("examples/opt-paper.yaml")
POINTS = "points of peak"


@dataclass(frozen=True)
class Case:
    """Where figures come from, and how the requests are shared among routers."""

    source: str
    split: str

    @property
    def id(self) -> str:
        """In records and on the command line."""
        return f"{self.source}/{self.split}"

    @property
    def words(self) -> str:
        """For claims."""
        shares = SHARES[self.split]
        routers = "one router" if len(shares) == 1 else f"{len(shares)} routers ({'/'.join(f'{s:g}' for s in shares)})"
        figures = {DIRECT: "figures straight from the engines", "stopped": "Prometheus stopped after a tenth"}
        return f"{figures.get(self.source, f'Prometheus scraping every {self.source}')}, {routers}"

    @property
    def bar(self) -> str:
        """What the mean difference to `direct` may be, in points."""
        if self.source == "stopped":
            return "<= 2"
        return "<= 1" if self.split == "1" else "<= 1.5"

    @classmethod
    def of(cls, text: str) -> "Case":
        """Read SOURCE/SPLIT. Raises TargetError."""
        source, _, split = text.partition("/")
        if source not in SOURCES or split not in SHARES:
            raise TargetError(
                f"--case {text}: expected SOURCE/ROUTERS, SOURCE one of {', '.join(SOURCES)}, ROUTERS one of "
                f"{', '.join(SHARES)}"
            )
        return cls(source, split)


CASES = tuple(Case(source, split) for split in SHARES for source in SOURCES)


@dataclass(frozen=True)
class Measurement:
    """What every run of one sample shares; ``key`` begins its records' ids."""

    key: str
    show: Show
    direct: Figures
    learned: Contender
    made_by: Recorder

    @property
    def seconds(self) -> float:
        """The clip's length as it is played."""
        return float(self.show.stage.arrivals.time[-1])

    def stage(self, case: Case) -> Stage:
        """The live run of a case."""
        load = self.direct.load
        if case.source != DIRECT:
            load = LocalPrometheus(the_prometheus(), INTERVALS[case.source])
        outage = OUTAGE_AFTER * self.seconds if case.source == "stopped" else None
        shares = SHARES[case.split]
        return replace(self.show.stage, load=load, shares=shares, outage_seconds=outage)

    def run(self, case: Case, repeat: int) -> Record:
        """Play the clip once; an invalid run has no figure."""
        live = run_live(self.stage(case), self.learned, ATTEMPTS)
        found = 100 * live.summary.performance if live.summary.valid else None
        claim = f"{self.learned.name}, {case.words}: performance over the clip, repeat {repeat}"
        return self.made_by.record(f"{self.key}.{case.id}.run{repeat}", claim, found, POINTS)

    def simulated(self, case: Case) -> float:
        """What the simulator says of the same requests, in points: the mean over phases of scrapes and polls."""
        stage = self.stage(case)
        engines = sum(model.max_replicas for model in stage.scenario.models)
        found = []
        for draw in range(DRAWS):
            figures = figures_in(case, engines, self.seconds, np.random.default_rng(draw))
            circumstances = Circumstances(figures=figures)
            predicted = prediction.predict(
                stage.scenario, stage.arrivals, self.learned.choice, stage.routers(), circumstances
            )
            found.append(100 * predicted.performance)
        return float(np.mean(found))


def figures_in(case: Case, engines: int, seconds: float, generator: np.random.Generator) -> LoadFigures:
    """What the routers of a case see in the simulator. They start knowing nothing of each other, as routers do."""
    routers = len(SHARES[case.split])
    if case.source == DIRECT:
        polls = tuple(Poll(1.0, float(first), 0.005, 0.0, 1.0) for first in generator.uniform(0.0, 1.0, routers))
        return LoadFigures(polls, 1.0, tuple(map(float, generator.uniform(0.0, 1.0, engines))))
    old = LoadFigures.old(routers, engines, INTERVALS[case.source], generator)
    outage = (OUTAGE_AFTER * seconds, inf) if case.source == "stopped" else (inf, inf)
    polls = tuple(replace(poll, share=1.0, lag=LAG_SECONDS) for poll in old.polls)
    return replace(old, polls=polls, outage=outage)


def runs_of(key: str, case: Case, folder: Path) -> dict[int, float]:
    """Performance in points by repeat, as far as it is recorded."""
    start = f"{key}.{case.id}.run"
    found = {}
    for entry in read(folder / f"{TOPIC}.json"):
        identity, measured = str(entry["id"]), entry["measured"]
        if identity.startswith(start) and isinstance(measured, int | float):
            found[int(identity.removeprefix(start))] = float(measured)
    return found


def conclusions(measurement: Measurement, case: Case, folder: Path) -> Iterator[Record]:
    """What the recorded runs of a case say against `direct` and against the simulator."""
    key, runs = measurement.key, runs_of(measurement.key, case, folder)
    if not runs:
        return
    against = runs_of(key, Case(DIRECT, case.split), folder)
    pairs = [runs[repeat] - against[repeat] for repeat in sorted(runs.keys() & against.keys())]
    if pairs and case.source != DIRECT:
        difference = paired_interval(pairs)
        yield measurement.made_by.record(
            f"{key}.{case.id}.difference",
            f"{measurement.learned.name}, {case.words}: mean difference to direct figures, {difference.n} repeats "
            f"(mean {difference.mean:+.2f}, 95 % interval {difference.low:+.2f} to {difference.high:+.2f})",
            abs(difference.mean),
            POINTS,
            case.bar,
        )
    live, simulated = float(np.mean(list(runs.values()))), measurement.simulated(case)
    yield measurement.made_by.record(
        f"{key}.{case.id}.simulated",
        f"{measurement.learned.name}, {case.words}: simulator and live runs agree (live {live:.2f}, simulated "
        f"{simulated:.2f})",
        abs(live - simulated),
        POINTS,
        f"<= {FIDELITY_POINTS:g}",
    )


def measurement_of(
    sample: Path, artifact: Path | None, seconds_per_minute: float, folder: Path, made_by: Recorder
) -> Measurement:
    """Everything that the runs of ``sample`` share. Raises BestEffortError where something does not fit."""
    service, profiles = the_service(sample)
    direct = figures_of(service, prometheus=False)
    show = show_of(service, scenario_of(service, profiles), folder / sample.stem, direct, seconds_per_minute)
    learned = Contender("Learned", artifact_choice(artifact or RESULTS / "policies" / sample.stem / "policy"))
    key = sample.stem if seconds_per_minute == SECONDS_PER_MINUTE else f"{sample.stem}.{seconds_per_minute:g}s"
    return Measurement(key, show, direct, learned, made_by)


def measure(
    measurement: Measurement, cases: Sequence[Case], repeats: Sequence[int], folder: Path, console: Console
) -> list[Record]:
    """Run every case once per repeat, writing as it goes; the conclusions."""
    for repeat in repeats:
        for case in cases:
            with console.status(f"repeat {repeat}, {case.words}: {measurement.seconds:.0f} s"):
                record = measurement.run(case, repeat)
            write(TOPIC, [record], folder)
            figure = "INVALID" if record.measured is None else f"{record.measured:.2f}"
            console.print(f"{measurement.key} {case.id:<12} repeat {repeat}: {figure}")
    found: list[Record] = []
    for case in cases:
        made = list(conclusions(measurement, case, folder))
        write(TOPIC, made, folder)
        found += made
        for record in made:
            mark = {True: "met", False: "SHORT", None: "-"}[record.met]
            console.print(f"{mark:<6}{record.measured:.2f} ({record.bar}) {record.claim}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every conclusion is met, 1 when one falls short."""
    parser = argparse.ArgumentParser(prog="bes_lab.live_staleness", description=__doc__)
    parser.add_argument("--sample", type=Path, default=SAMPLE, help="BestEffortService (default %(default)s)")
    parser.add_argument("--artifact", type=Path, help="folder of the policy (default: the sample's recorded one)")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="SOURCE/ROUTERS",
        help=f"only these: {', '.join(SOURCES)} with {', '.join(SHARES)} routers (4u: .7/.1/.1/.1), such as 5s/4u",
    )
    parser.add_argument("--repeat", type=int, action="append", default=[], metavar="N", help="only these repeats")
    parser.add_argument(
        "--seconds-per-minute", type=float, default=SECONDS_PER_MINUTE, help="of the clip (default %(default)g)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the records (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.live_staleness", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    made_by = recorder("python -m bes_lab.live_staleness", seed=0, packages=("numpy", "prometheus-api-client"))
    cases = [Case.of(text) for text in given.case] or CASES
    if not 0.1 <= given.seconds_per_minute <= 60.0:
        raise TargetError(f"--seconds-per-minute {given.seconds_per_minute:g}: expected 0.1 to 60")
    with tempfile.TemporaryDirectory(prefix="bes-staleness-") as folder:
        measurement = measurement_of(given.sample, given.artifact, given.seconds_per_minute, Path(folder), made_by)
        repeats = given.repeat or range(1, REPEATS + 1)
        made = measure(measurement, cases, repeats, given.results, console)
    short = sum(record.met is False for record in made)
    console.print(f"{given.results / f'{TOPIC}.json'}: {len(made)} conclusions, {short} fall short")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
