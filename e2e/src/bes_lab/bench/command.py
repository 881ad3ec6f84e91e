"""`bes bench`: each benchmark by name, or all of them; what they measure becomes records in docs/results/bench.json."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bes_api.command import Command
from bes_api.documents import the_service
from bes_api.errors import BestEffortError
from bes_api.output import prepare_folder
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import results
from bes_lab.bench import decision, router, simulator, training

TOPIC = "bench"
SEED = 1
QUIET_LOAD = 0.7
PAPER, TIME_SLICED = "opt-paper", "opt-time-sliced"
PACKAGES = ("numpy", "numba", "uvloop", "httptools", "torch", "stable-baselines3")


class BenchmarkFailedError(BestEffortError):
    """A benchmark could not be carried out; nothing of it was recorded."""

    exit_code = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes bench`."""
    parser.add_argument("what", choices=(*BENCHMARKS, "all"), help="what to measure")
    parser.add_argument("--examples", type=Path, default=Path("examples"), help="folder of the sample services")
    parser.add_argument("--out", type=Path, default=results.RESULTS, help="folder of the records (default %(default)s)")
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for what is unpacked (nginx)")
    parser.add_argument("--json", action="store_true", help="print the records as JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Measure, record, print."""
    prepare_folder("--out", arguments.out)
    busy = os.getloadavg()[0]
    if busy > QUIET_LOAD:
        _say(f"NOTE: this machine is busy (load {busy:.1f}): every figure will be worse than on a quiet one")
    measured: list[results.Record] = []
    for name in BENCHMARKS if arguments.what == "all" else (arguments.what,):
        _say(f"== {name}")
        recorder = results.recorder(f"bes bench {name}", seed=SEED, packages=PACKAGES)
        try:
            records = BENCHMARKS[name](arguments, recorder)
        except (router.BenchmarkError, TimeoutError) as error:
            raise BenchmarkFailedError(f"bench {name}: {error}") from error
        if records:
            _say(f"recorded in {results.write(TOPIC, records, arguments.out)}")
            measured += records
            if not arguments.json:
                _print(records)
    if arguments.json:
        sys.stdout.write(json.dumps([record.as_json() for record in measured], indent=2, ensure_ascii=False) + "\n")
    return 0


def _sample(arguments: argparse.Namespace, name: str) -> Scenario:
    return scenario_of(*the_service(arguments.examples / f"{name}.yaml"))


def _router(arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
    return router.measure(_sample(arguments, PAPER), arguments.build.absolute(), recorder, _say)


def _decision(arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
    return decision.measure(_sample(arguments, TIME_SLICED), recorder)


def _simulator(arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
    return [
        record
        for name in (PAPER, TIME_SLICED)
        for record in simulator.measure(name, _sample(arguments, name), recorder, _say)
    ]


def _learner(arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
    from bes_lab.bench import sb3  # noqa: PLC0415 - Stable-Baselines3 is only where `make bench` installs it

    return sb3.measure(PAPER, _sample(arguments, PAPER), recorder, _say)


def _training(arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
    return training.measure(TIME_SLICED, arguments.examples / f"{TIME_SLICED}.yaml", recorder)


Benchmark = Callable[[argparse.Namespace, results.Recorder], list[results.Record]]
BENCHMARKS: Mapping[str, Benchmark] = {
    "router": _router,
    "decision": _decision,
    "simulator": _simulator,
    "learner": _learner,
    "training": _training,
}


def _print(records: list[results.Record]) -> None:
    table = Table("claim", "measured", "unit", "bar", "", highlight=False)
    for record in records:
        measured = "failed" if record.measured is None else f"{record.measured:.4g}"
        verdict = {True: "[green]met", False: "[bold red]short", None: ""}[record.met]
        table.add_row(record.claim, measured, record.unit, record.bar or "", verdict)
    Console().print(table)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


BENCH = Command("bench", "measure router, decisions, simulator and learners", "lab", configure, run)
