"""`bes demo`: train a policy, serve a real burst on emulated GPUs under it and its rivals, and show who delivered.

Everything that the table says was measured over HTTP on this machine; the simulator's prediction stands beside it.
"""

import argparse
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bes_api.command import Command
from bes_api.documents import the_service
from bes_api.engines import engine_types
from bes_api.output import prepare_folder
from bes_api.passport import TunedRule
from bes_api.router_config import DeadlineAwarePolicy, LearnedPolicy, PaperPolicy, PricedPolicy, StaticPolicy
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService, Learner
from bes_lab import clips, demo_picture, prediction
from bes_lab.live import Contender, LiveRun, Stage, contender, run_live
from bes_lab.local.figures import Figures, figures_of
from bes_lab.local.policies import artifact_choice, own_policy
from bes_lab.local.prometheus import LocalPrometheus, find_prometheus
from bes_lab.prediction import Prediction
from bes_lab.replay.report import to_json, write_json
from bes_lab.results import this_machine
from bes_router.policy.artifact import read_artifact
from bes_training.learning.command import SUMMARY, train_into
from bes_training.learning.settings import settings_of

MULTIPLE = 3.0
SECONDS_PER_MINUTE = 1.0
ATTEMPTS = 2
DECISIONS = 250_000
"""Of the shortened training; the service's own figure takes minutes more."""
VALIDATION_REQUESTS = 2_000
"""Of each validation workload, in the shortened training."""
TUNED_DEADLINE, TUNED_PRICED = "DeadlineAware/LeastFinish", "PricedGated/Bunched"
"""The kinds of rule that a shortened training tunes."""
LOG_WIDTH = 120


@dataclass(frozen=True)
class Show:
    """The clip as it is played: how many times base, and the base that was measured."""

    clip: clips.Clip
    base_rate: float
    stage: Stage


def train(
    service: BestEffortService, scenario: Scenario, folder: Path, decisions: int, console: Console
) -> list[Contender]:
    """Train anew, shortened and with one seed; what came of it. Goes on where Ctrl-C stopped the one before."""
    if (folder / SUMMARY).exists():  # a finished one; the demo is there to show a training
        shutil.rmtree(folder)
    settings = replace(
        settings_of(service, threads=len(os.sched_getaffinity(0)), decisions=decisions),
        seeds=(1,),
        opponents="few",
        validation_requests=VALIDATION_REQUESTS,
        shortened=True,
    )
    if find_spec("torch") is None:
        console.print("no torch here, so no DQN: install best-effort-serving[training]", markup=False)
        settings = replace(settings, learner=Learner.EVOLUTION)
    asked = service.spec.policy.source.training
    console.print(
        f"training: {settings.learner}, one seed, shortened to {decisions:,} decisions"
        + (f" of {asked.decisions:,} ({asked.seeds} seeds) that the service asks for" if asked else "")
    )
    trained = train_into(scenario, settings, folder, console)
    console.print(f"trained in {trained.seconds:.0f} s; the best rule on validation was {trained.comparator}")
    learned = [Contender("Learned", artifact_choice(trained.policy))]
    if trained.network is not None:
        learned.append(Contender("DQN", artifact_choice(trained.network)))
    return learned


def rivals(scenario: Scenario, tuned: Mapping[str, TunedRule] | None = None) -> list[Contender]:
    """Every model alone, and the rules: as a training tuned them, else with their published parameters."""
    statics = [contender(StaticPolicy(model=model.name)) for model in scenario.models]
    found = tuned or {}
    deadline, priced = found.get(TUNED_DEADLINE), found.get(TUNED_PRICED)
    return [
        *statics,
        contender(DeadlineAwarePolicy(**deadline.model_dump()) if deadline else DeadlineAwarePolicy()),
        contender(PricedPolicy(**priced.model_dump()) if priced else PricedPolicy()),
    ]


def tuned_rules(learned: Sequence[Contender]) -> Mapping[str, TunedRule]:
    """The rules that the learned policies' training tuned."""
    for who in learned:
        if isinstance(who.choice, LearnedPolicy | PaperPolicy):
            return read_artifact(who.choice.artifact).passport.tuned_rules
    return {}


def show_of(
    service: BestEffortService,
    scenario: Scenario,
    folder: Path,
    figures: Figures | None = None,
    seconds_per_minute: float = SECONDS_PER_MINUTE,
) -> Show:
    """The demo's clip at three times the base rate of this scenario; the clip's committed seed.

    ``figures`` None: straight from the engines.
    """
    clip = clips.load(clips.DEMO_CLIP)
    base = prediction.base_rate(scenario)
    arrivals = clips.arrivals(clip, base, MULTIPLE, seconds_per_minute, clip.seed, scenario.tasks)
    _, fallback = own_policy(service)
    source = figures or figures_of(service, prometheus=False)
    stage = Stage(service.name, scenario, source.load, fallback, arrivals, folder, engine_types(service.spec))
    return Show(clip, base, stage)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes demo`."""
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for report and logs")
    parser.add_argument(
        "--service", type=Path, default=Path("examples/opt-paper.yaml"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--artifact",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="use these trained policies instead of training",
    )
    parser.add_argument(
        "--decisions", type=int, default=DECISIONS, metavar="N", help="of the shortened training (default %(default)s)"
    )
    parser.add_argument(
        "--prometheus",
        action=argparse.BooleanOptionalAction,
        help="load figures through a real Prometheus (default: where there is one)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON; everything else goes to stderr")


def run(arguments: argparse.Namespace) -> int:
    """0 when report and picture were written; a run that was invalid says so in table and report."""
    began = time.monotonic()
    prepare_folder("--out", arguments.out)
    console = Console(highlight=False, stderr=arguments.json)
    if not console.is_terminal:
        console = Console(highlight=False, width=LOG_WIDTH, stderr=arguments.json)
    service, profiles = the_service(arguments.service)
    scenario = scenario_of(service, profiles)
    out: Path = arguments.out
    wanted = find_prometheus() is not None if arguments.prometheus is None else arguments.prometheus
    figures = figures_of(service, wanted)
    with console.status("measuring the base rate in the simulator"):
        show = show_of(service, scenario, out / "logs", figures)
    _introduce(show, figures, console)
    if arguments.artifact:
        learned: Sequence[Contender] = [contender(artifact_choice(folder)) for folder in arguments.artifact]
    else:
        learned = train(service, scenario, out / "training", arguments.decisions, console)
    runs: list[tuple[LiveRun, Prediction]] = []
    for who in [*learned, *rivals(scenario, tuned_rules(learned))]:
        predicted = prediction.predict(scenario, show.stage.arrivals, who.choice)
        with console.status(f"{who.name}: {show.stage.arrivals.time.size} requests over HTTP"):
            live = run_live(show.stage, who, ATTEMPTS)
        runs.append((live, predicted))
        valid = "" if live.summary.valid else f"  [red]INVALID: {live.summary.invalid_because[0]}[/]"
        console.print(f"  {who.name:<22} {live.summary.performance:6.1%} of peak in time{valid}")
    console.print(_table(runs))
    seconds = time.monotonic() - began
    document = _report(show, figures, runs, seconds)
    write_json(document, out / "report.json")
    title = f"{show.clip.name} at {MULTIPLE:g}x base on {len(scenario.gpus)} emulated GPUs, over HTTP"
    demo_picture.draw([live for live, _ in runs], show.base_rate, title, out / "report.png")
    console.print(f"{out / 'report.json'} and {out / 'report.png'} written; {seconds:.0f} s in all")
    if arguments.json:
        print(to_json(document))  # noqa: T201 - what --json promises
    return 0


def _introduce(show: Show, figures: Figures, console: Console) -> None:
    stage = show.stage
    names = ", ".join(f"{model.name} x{model.max_replicas}" for model in stage.scenario.models)
    seconds = len(show.clip.counts) * SECONDS_PER_MINUTE
    console.print(f"[bold]{stage.service}[/]: {names} on {len(stage.scenario.gpus)} emulated GPUs")
    console.print(f"base {show.base_rate:.1f} requests/s: what the largest model alone serves with 99 % in time")
    console.print(
        f"clip {show.clip.name}: {stage.arrivals.time.size} requests in {seconds:.0f} s, a mean of {MULTIPLE:g}x base; "
        "real per-minute counts, Poisson inside"
    )
    console.print(f"load figures come {figures.said}", markup=False)


def _table(runs: Sequence[tuple[LiveRun, Prediction]]) -> Table:
    table = Table(title="Quality delivered in time, best first", title_justify="left")
    table.add_column("policy", no_wrap=True)
    for column in ("of peak", "simulated", "in time", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("answered by")
    for live, predicted in sorted(runs, key=lambda pair: -pair[0].summary.performance):
        summary = live.summary
        total = max(1, sum(summary.models.values()))
        table.add_row(
            live.contender.name if summary.valid else f"{live.contender.name} [red](invalid)[/]",
            f"[bold]{summary.performance:.1%}[/]",
            f"{predicted.performance:.1%}",
            f"{summary.in_time:.1%}",
            f"{summary.latency.p50 * 1e3:.0f}",
            f"{summary.latency.p99 * 1e3:.0f}",
            ", ".join(f"{name} {count / total:.0%}" for name, count in summary.models.items()),
        )
    return table


def _report(
    show: Show, figures: Figures, runs: Sequence[tuple[LiveRun, Prediction]], seconds: float
) -> dict[str, object]:
    through = figures.load if isinstance(figures.load, LocalPrometheus) else None
    return {
        "service": show.stage.service,
        "scenario_hash": show.stage.scenario.content_hash(),
        "clip": show.clip.name,
        "clip_source": show.clip.source,
        "seed": show.clip.seed,
        "base_rate": show.base_rate,
        "multiple": MULTIPLE,
        "load_source": "prometheus" if through else "direct",
        "scrape_interval_seconds": through.scrape_interval_seconds if through else None,
        "machine": this_machine(),
        "seconds": seconds,
        "policies": [
            {
                "name": live.contender.name,
                "performance": live.summary.performance,
                "in_time": live.summary.in_time,
                "requests": live.summary.requests,
                "valid": live.summary.valid,
                "predicted_performance": predicted.performance,
                "router_p50_seconds": live.router_p50_seconds,
                "invalid_before": list(live.invalid_before),
                "cpu_seconds": live.cpu_seconds,
                "summary": live.summary.as_json(),
            }
            for live, predicted in runs
        ],
    }


DEMO = Command("demo", "train, serve a real burst on emulated GPUs, and compare policies", "lab", configure, run)
