"""Scheduling fidelity: the demo's clip over HTTP beside the simulator's prediction of the very same requests.

``python -m bes_lab.fidelity`` writes docs/results/fidelity.json. A run that its own lateness made invalid is repeated,
at most twice; three invalid runs fail the record.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from bes_api.command import exit_code_of
from bes_api.documents import the_service
from bes_api.router_config import ThresholdPolicy
from bes_api.scenario_of import scenario_of
from bes_lab import prediction
from bes_lab.demo import rivals, show_of
from bes_lab.live import LiveRun, contender, run_live
from bes_lab.local.policies import artifact_choice, choice_of
from bes_lab.prediction import Prediction
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

ATTEMPTS = 3
POINTS = 3.0
LATENCY_SHARE = 0.10
LATENCY_SECONDS = 0.004
POLICIES, TRAINED = RESULTS / "policies", ("policy", "dqn")
SAMPLES = (Path("examples/opt-paper.yaml"), Path("examples/opt-time-sliced.yaml"))


def records_of(sample: str, live: LiveRun, predicted: Prediction, made_by: Recorder) -> list[Record]:
    """Three records of one policy on one sample: performance, median latency, the router's own share of it."""
    name, summary = live.contender.name, live.summary
    where = f"{sample}, {name}"
    points: float | None = abs(summary.performance - predicted.performance) * 100
    latency: float | None = abs(summary.latency_from_send.p50 - predicted.latency_p50) * 1e3
    if not summary.valid:
        points = latency = None
    allowed = max(LATENCY_SHARE * predicted.latency_p50, LATENCY_SECONDS) * 1e3
    return [
        made_by.record(
            f"{sample}.{name}.performance",
            f"simulator and live run agree on performance ({where}: live {summary.performance:.3f})",
            points,
            "points",
            f"<= {POINTS:g}",
        ),
        made_by.record(
            f"{sample}.{name}.latency",
            f"simulator and live run agree on p50 latency, within 10 % or 4 ms ({where}: live "
            f"{summary.latency_from_send.p50 * 1e3:.1f} ms)",
            latency,
            "ms",
            f"<= {allowed:.2f}",
        ),
        made_by.record(
            f"{sample}.{name}.router",
            f"the router's own p50, from a request's last byte to its sending ({where})",
            live.router_p50_seconds * 1e6,
            "us",
        ),
    ]


def measure(
    file: Path, policies: Sequence[str], folder: Path, made_by: Recorder, console: Console
) -> Iterator[list[Record]]:
    """Each of ``policies`` on one sample; prints a line each and yields its records.

    None named: every model alone, every rule, and the sample's trained policies among the results.
    """
    service, profiles = the_service(file)
    scenario = scenario_of(service, profiles)
    show = show_of(service, scenario, folder / file.stem)
    contenders = [contender(choice_of(policy, scenario)) for policy in policies]
    trained = [
        contender(artifact_choice(POLICIES / file.stem / name))
        for name in TRAINED
        if (POLICIES / file.stem / name).is_dir()
    ]
    for who in contenders or [*rivals(scenario), contender(ThresholdPolicy()), *trained]:
        predicted = prediction.predict(scenario, show.stage.arrivals, who.choice)
        live = run_live(show.stage, who, ATTEMPTS)
        console.print(
            f"{file.stem} {who.name:<20} live {live.summary.performance:.3f} simulated {predicted.performance:.3f}; "
            f"p50 {live.summary.latency_from_send.p50 * 1e3:.1f} / {predicted.latency_p50 * 1e3:.1f} ms; "
            f"router {live.router_p50_seconds * 1e6:.0f} us"
            + "".join(f"; repeated: {reason}" for reason in live.invalid_before)
            + ("" if live.summary.valid else f"; INVALID: {live.summary.invalid_because[0]}")
        )
        yield records_of(file.stem, live, predicted, made_by)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every record is met, 1 when one falls short."""
    parser = argparse.ArgumentParser(prog="bes_lab.fidelity", description=__doc__)
    parser.add_argument("--sample", type=Path, action="append", help="BestEffortService (default: the first two)")
    parser.add_argument(
        "--policy", action="append", default=[], help="rule, model or artifact's folder (default: all rules and models)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the records (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.fidelity", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    made_by = recorder("python -m bes_lab.fidelity", seed=None, packages=("numpy", "numba", "uvloop", "httptools"))
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="bes-fidelity-") as folder:
        for sample in given.sample or SAMPLES:
            for made in measure(sample, given.policy, Path(folder), made_by, console):
                write("fidelity", made, given.results)  # as soon as known: the rest takes many minutes
                records += made
    short = sum(record.met is False for record in records)
    console.print(f"{given.results / 'fidelity.json'}: {len(records)} records, {short} fall short")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
