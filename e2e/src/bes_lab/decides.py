"""How the router decides, from a run that happened: the demo's burst over HTTP, its decision log, and what came of it.

``python -m bes_lab.decides`` writes docs/results/decides.json and docs/images/decides.png, which docs/how-it-decides.md
shows. Load and choices are what the router wrote down when it decided; deadlines are as the client saw them.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console

from bes_api.command import exit_code_of
from bes_api.documents import the_service
from bes_api.output import prepare_folder
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import decides_picture
from bes_lab.demo import Show, show_of
from bes_lab.errors import TargetError, TraceError
from bes_lab.live import DRAIN_SECONDS
from bes_lab.local.plan import Plan
from bes_lab.local.policies import choice_of
from bes_lab.local.service import LocalService
from bes_lab.replay.bodies import bodies_of
from bes_lab.replay.client import send_all
from bes_lab.replay.outcomes import Outcomes, Summary, judge, summarize
from bes_lab.results import RESULTS, Record, Recorder, recorder, write
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import LoadView, RoutingRequest
from bes_router.policy.rules import finish_on

TOPIC = "decides"
PICTURE = Path("docs/images/decides.png")
SAMPLE = Path("examples/opt-time-sliced.yaml")
POLICY = RESULTS / "policies" / "opt-time-sliced" / "policy"
ATTEMPTS = 3
CALM_SHARE = 0.5
"""The calm moment is half way between the clip's beginning and its busiest second."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Decisions:
    """A decision log of N decisions of M models. Seconds from the first one; ``finish`` is NaN where none is ready."""

    time: Floats
    model: Ints
    task: Ints
    in_flight: Floats  # [N, M] requests in flight per model, as the router believed
    finish: Floats  # [N, M] seconds that the request would take on the best engine of each model, predicted


@dataclass(frozen=True)
class Run:
    """A burst as router and client saw it."""

    show: Show
    scenario: Scenario
    policy: str
    decisions: Decisions
    outcomes: Outcomes
    summary: Summary


def read_log(path: Path, scenario: Scenario) -> Decisions:
    """What a router wrote with ``--decision-log``. Raises TraceError."""
    catalogue = catalogue_of(scenario)
    engines = [
        range(catalogue.model_first[model], catalogue.model_first[model + 1]) for model in range(len(scenario.models))
    ]
    time, model, task, loads, finishes = [], [], [], [], []
    try:
        for entry in _lines(path):
            view, request = LoadView(**entry["view"]), RoutingRequest(**entry["request"])
            time.append(entry["now"])
            model.append(entry["decision"]["model"])
            task.append(request.task)
            loads.append(list(view.model_load))
            finishes.append(
                [
                    min(
                        (finish_on(catalogue, view, request, engine) for engine in each if view.ready[engine]),
                        default=float("nan"),
                    )
                    for each in engines
                ]
            )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TraceError(str(path), f"is no decision log of this service ({error!r})") from error
    if not time:
        raise TraceError(str(path), "holds no decision; was anything sent to this router?")
    order = np.argsort(time, kind="stable")
    at = np.array(time)[order]
    return Decisions(
        at - at[0], np.array(model)[order], np.array(task)[order], np.array(loads)[order], np.array(finishes)[order]
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        next(file, None)  # the first line says scenario and policy
        for line in file:
            yield orjson.loads(line)


def watch(file: Path, policy: str, folder: Path, attempts: int, console: Console) -> Run:
    """Play the demo's clip against a fresh local service that logs its decisions; repeated while it is invalid."""
    service, profiles = the_service(file)
    scenario = scenario_of(service, profiles)
    show = show_of(service, scenario, folder)
    stage, log = show.stage, folder / "decisions.jsonl"
    plan = Plan(
        stage.service,
        scenario,
        choice_of(policy, scenario),
        stage.fallback,
        stage.load,
        folder,
        decision_log=log,
        engines=stage.engines,
    )
    bodies = bodies_of(stage.arrivals, scenario.tasks)
    for attempt in range(attempts):
        with LocalService(plan) as running, console.status(f"{len(bodies)} requests over HTTP"):
            measured = send_all(running.urls, stage.arrivals.time.tolist(), bodies, DRAIN_SECONDS)
            running.check()
        outcomes = judge(scenario, stage.arrivals, measured)
        summary = summarize(scenario, outcomes, measured)
        if summary.valid or attempt + 1 == attempts:
            return Run(show, scenario, plan.policy.type, read_log(log, scenario), outcomes, summary)
        console.print(f"repeated: {summary.invalid_because[0]}")
    raise ValueError("attempts: expected at least 1")


def moments(run: Run) -> dict[str, int]:
    """The busiest second of the schedule, and a calm one before it."""
    sent = np.bincount(run.outcomes.time.astype(np.int64))
    busiest = int(sent.argmax())
    return {"calm": int(busiest * CALM_SHARE), "burst": busiest}


def records_of(run: Run, made_by: Recorder) -> list[Record]:
    """The whole run, and for both moments: what came, what was chosen, what each model promised, what was in time.

    A figure of what did not happen (nothing was decided in that second) is missing.
    """

    def record(identity: str, claim: str, measured: float, unit: str) -> Record:
        return made_by.record(f"decides.{identity}", claim, float(measured) if np.isfinite(measured) else None, unit)

    peak = "% of peak"
    made = [record("performance", "quality in time over the whole clip", 100 * run.summary.performance, peak)]
    made.append(record("in-time", "answered in time over the whole clip", 100 * run.summary.in_time, "%"))
    second = run.outcomes.time.astype(np.int64)
    for moment, at in moments(run).items():
        came = second == at
        where = f"in the {moment} second ({at})"
        taken = run.decisions.time.astype(np.int64) == at
        made.append(record(f"{moment}.requests", f"requests that came {where}", came.sum(), "requests"))
        made.append(
            record(f"{moment}.in-time", f"answered in time {where}", 100 * run.outcomes.in_time[came].mean(), "%")
        )
        for index, model in enumerate(run.scenario.models):
            chosen = 100 * (run.decisions.model[taken] == index).mean() if taken.any() else float("nan")
            ahead = float(np.median(run.decisions.in_flight[taken, index])) if taken.any() else float("nan")
            promised = float(np.median(run.decisions.finish[taken, index])) * 1e3 if taken.any() else float("nan")
            made += [
                record(f"{moment}.{model.name}.in-flight", f"{model.name}: in flight {where}, median", ahead, ""),
                record(
                    f"{moment}.{model.name}.finish", f"{model.name}: predicted finish {where}, median", promised, "ms"
                ),
                record(f"{moment}.{model.name}.chosen", f"{model.name}: chosen {where}", chosen, "%"),
            ]
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if every attempt was invalid: nothing is written then."""
    parser = argparse.ArgumentParser(prog="bes_lab.decides", description=__doc__)
    parser.add_argument("--sample", type=Path, default=SAMPLE, help="BestEffortService (default %(default)s)")
    parser.add_argument("--policy", default=str(POLICY), help="rule, model or artifact's folder (default %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the records (default %(default)s)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="default %(default)s")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="where a run is invalid (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.decides", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if given.attempts < 1:
        raise TargetError(f"--attempts {given.attempts}: expected at least 1")
    made_by = recorder("python -m bes_lab.decides", seed=None, packages=("numpy", "uvloop", "httptools"))
    prepare_folder("--results", given.results)
    prepare_folder("--picture, its folder", given.picture.parent)
    with tempfile.TemporaryDirectory(prefix="bes-decides-") as folder:
        run = watch(given.sample, given.policy, Path(folder), given.attempts, console)
    console.print(f"{run.policy}: {run.summary.performance:.1%} of peak in time")
    if not run.summary.valid:
        console.print(f"INVALID, nothing is written: {run.summary.invalid_because[0]}")
        return 1
    written = write(TOPIC, records_of(run, made_by), given.results)
    decides_picture.draw(run.scenario, run.decisions, run.outcomes, run.show, given.picture)
    console.print(f"{written} and {given.picture} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
