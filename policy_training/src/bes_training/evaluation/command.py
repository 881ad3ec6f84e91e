"""`bes evaluate`: policies compared on held-out workloads in the simulator."""

import argparse
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bes_api.command import Command
from bes_api.comparison import best_policy
from bes_api.documents import the_service
from bes_api.errors import BestEffortError
from bes_api.output import prepare_folder, whole_file
from bes_api.report import EvaluationReport
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_training.evaluation.base_rate import largest_model, measure_base
from bes_training.evaluation.comparison import Subject, evaluate, report_of
from bes_training.evaluation.contestants import Contestants, contestants_of, rule_of, simulated
from bes_training.evaluation.figures import WINDOW_SECONDS
from bes_training.evaluation.table import comparisons_tables, policies_table, tasks_table
from bes_training.workloads.suite import MAX_REQUESTS, Suite, load_suite, realise
from bes_training.workloads.traces import Part
from bes_training.workloads.workload import Setting, Workload

REPORT = "evaluation.json"
BURST = {Part.TEST: "maf-a30-4x", Part.VALIDATION: "maf-b30-4x"}
"""The workload of the picture over time."""


class EvaluationArgumentError(BestEffortError):
    """An argument of `bes evaluate` that cannot be used."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation with what its pictures need."""

    subject: Subject
    report: EvaluationReport
    contestants: Contestants
    scenario: Scenario
    setting: Setting
    suite: Suite


@dataclass(frozen=True)
class Terms:
    """On which suites, with which window, on how many threads."""

    judged: Suite
    validation: Suite
    window_seconds: float = WINDOW_SECONDS
    threads: int = 1
    max_requests: int = MAX_REQUESTS
    """Of each workload."""


def judge(scenario: Scenario, named: Sequence[str], terms: Terms, console: Console) -> Evaluation:
    """Evaluate statics, rules and ``named`` policies; the comparator is the best of the rules on validation."""
    contestants = contestants_of(scenario, named)
    base = measure_base(scenario, simulated(scenario, rule_of(scenario, largest_model(scenario))))
    setting = Setting.of(scenario, base)
    tasks = tuple(task.name for task in scenario.tasks)
    subject = Subject(scenario.content_hash(), tasks, base, terms.window_seconds)
    rules = {name: contestants.policies[name] for name in contestants.rules}
    shown = _shown(terms.validation, setting, terms.max_requests, "choosing the comparator", console)
    validation = evaluate(subject, rules, shown, threads=terms.threads)
    comparator = best_policy(validation, contestants.rules)
    shown = _shown(terms.judged, setting, terms.max_requests, f"{terms.judged.part} suite", console)
    outcomes = evaluate(subject, contestants.policies, shown, comparator, terms.threads)
    report = report_of(subject, outcomes, contestants.statics, comparator, validation)
    return Evaluation(subject, report, contestants, scenario, setting, terms.judged)


def write(evaluation: Evaluation, folder: Path) -> list[str]:
    """Write report and, where matplotlib is installed, pictures; the names of the files. Raises OutputError."""
    evaluation.report.write(folder / REPORT)
    if find_spec("matplotlib") is None:
        return [REPORT]
    return [REPORT, *_draw(evaluation, folder)]


def _draw(evaluation: Evaluation, folder: Path) -> list[str]:
    from bes_training.evaluation import plots  # noqa: PLC0415 - matplotlib comes with another extra

    report, suite, policies = evaluation.report, evaluation.suite, evaluation.contestants.policies
    challengers = [name for name in policies if name not in evaluation.contestants.rules] or [
        name for name in policies if name not in (*evaluation.contestants.statics, report.comparator)
    ]
    contestants = evaluation.contestants
    drawn = [*contestants.statics, *best_of_each_kind(report, contestants), *challengers]
    with whole_file(folder / "performance.png") as picture:
        plots.performance_over_load(report, suite, picture, drawn)
    with whole_file(folder / "differences.png") as picture:
        plots.differences(report, challengers, picture)
    burst = next((item for item in suite.workloads if item.id == BURST[suite.part]), suite.workloads[0])
    workload = realise(burst, suite.part, suite.seeds[0], evaluation.setting)
    shown = [name for name in (report.comparator, *challengers[:3]) if name is not None]
    runs = {name: policies[name](workload) for name in shown}
    names = [model.name for model in evaluation.scenario.models]
    with whole_file(folder / "burst.png") as picture:
        plots.burst_over_time(workload, runs, names, picture)
    return ["performance.png", "differences.png", "burst.png"]


def best_of_each_kind(report: EvaluationReport, contestants: Contestants) -> list[str]:
    """The best of every kind of rule (its placements and tunings), statics left out: what a picture can hold."""
    kinds: dict[str, list[str]] = {}
    for name in contestants.rules:
        kind = re.split(r"[ /(]", name)[0].rstrip("0123456789")
        if kind != "Static":
            kinds.setdefault(kind, []).append(name)
    return [best_policy(report.outcomes, names) for names in kinds.values()]


def _shown(suite: Suite, setting: Setting, max_requests: int, what: str, console: Console) -> Iterator[Workload]:
    """The suite's workloads, with a bar on standard error while they are consumed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(
            suite.realise(setting, max_requests=max_requests),
            total=len(suite.workloads) * len(suite.seeds),
            description=what,
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes evaluate`."""
    parser.add_argument("file", type=Path, help="YAML with one BestEffortService (and the profiles it names)")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="NAME|DIR",
        help="also: an artifact's folder, a rule or a model, the last two with /LeastFinish or /Bunched behind if "
        "wanted; every static model and rule always takes part; may be repeated",
    )
    parser.add_argument("--suite", choices=("test", "validation"), default="test", help="default: %(default)s")
    parser.add_argument(
        "--window", type=float, default=WINDOW_SECONDS, metavar="SECONDS", help="of the shares of good windows"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of tables")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report and pictures there")


def run(arguments: argparse.Namespace) -> int:
    """Do it; 0 unless the caller must mend something (an exception that `bes` turns into one line)."""
    if not 0 < arguments.window < math.inf:
        raise EvaluationArgumentError(
            f"--window {arguments.window:g}: expected seconds above 0; leave it out for {WINDOW_SECONDS:g}"
        )
    if arguments.out is not None:
        prepare_folder("--out", arguments.out)  # now: at the end it would cost the whole evaluation
    service, profiles = the_service(arguments.file)
    scenario = scenario_of(service, profiles)
    progress = Console(stderr=True)
    suites = load_suite(Part(arguments.suite)), load_suite(Part.VALIDATION)
    terms = Terms(*suites, window_seconds=arguments.window, threads=os.cpu_count() or 1)
    evaluation = judge(scenario, arguments.policy, terms, progress)
    report = evaluation.report
    if arguments.out is not None:
        names = write(evaluation, arguments.out)
        progress.print(f"written to {arguments.out}: {', '.join(names)}")
        if len(names) == 1:
            progress.print("no pictures: they need matplotlib (install best-effort-serving[lab])")
    if arguments.json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        console = Console()
        console.print(policies_table(report), tasks_table(report), *comparisons_tables(report))
        console.print(f"bold: the comparator, best of all rules on validation ({report.comparator})")
    return 0


EVALUATE = Command(
    name="evaluate",
    summary="compare policies on held-out workloads in the simulator",
    extra="training",
    configure=configure,
    run=run,
)
