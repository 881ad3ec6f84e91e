"""`bes train`: learn a policy for a service and leave artifact, evaluation and curves in a folder."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bes_api.command import DISTRIBUTION, Command
from bes_api.documents import the_service
from bes_api.errors import BestEffortError, MissingExtraError
from bes_api.output import prepare_folder, unwritable, whole_file, write_whole
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import Learner
from bes_training.evaluation.command import Terms, judge, write
from bes_training.evaluation.table import comparisons_tables, policies_table
from bes_training.learning.settings import TrainingSettings, settings_of
from bes_training.learning.train import Trained, stages, train
from bes_training.learning.watch import Watch
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part

SUMMARY = "summary.json"
CURVES = "curves.png"
LEAST_DECISIONS, MOST_DECISIONS = 1_000, 10**12
MOST_SEEDS = 1_000


class TrainingArgumentError(BestEffortError):
    """An argument of `bes train` that cannot be used."""


def train_into(scenario: Scenario, settings: TrainingSettings, folder: Path, console: Console) -> Trained:
    """Train with progress on ``console``; the summary with every seed's curve is written beside the artifacts.

    Raises MissingExtraError before anything is trained where the DQN will need torch and there is none.
    """
    if settings.learner is not Learner.EVOLUTION and find_spec("torch") is None:
        raise MissingExtraError(
            f"the learner {settings.learner} needs the package 'torch': install {DISTRIBUTION}[training], or take "
            f"--learner {Learner.EVOLUTION}"
        )
    with Watch(console, stages(scenario, settings)) as watch:
        trained = train(scenario, settings, folder, watch)
    seeds = [asdict(each) for each in trained.candidates]
    content = {"comparator": trained.comparator, "base_rate": trained.base_rate, "candidates": seeds}
    write_whole(folder / SUMMARY, json.dumps(content, indent=2) + "\n")
    if find_spec("matplotlib") is not None:
        from bes_training.evaluation.plots import learning_curves  # noqa: PLC0415 - matplotlib comes with another extra

        curves = {f"{each.learner} {each.seed}": each.curve for each in trained.candidates}
        with whole_file(folder / CURVES) as picture:
            learning_curves(curves, picture)
    return trained


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes train`."""
    parser.add_argument("file", type=Path, help="YAML with one BestEffortService (and the profiles it names)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes; resumes there")
    parser.add_argument(
        "--decisions", type=int, metavar="N", help="train for fewer (or more) decisions than the resource says"
    )
    parser.add_argument(
        "--learner", type=Learner, choices=list(Learner), metavar="|".join(Learner), help="default: the resource's"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds; default: what the resource says")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    parser.add_argument("--no-evaluation", action="store_true", help="leave out the comparison on the test suite")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do it; 0 unless the caller must mend something (an exception that `bes` turns into one line)."""
    seeds = _checked_seeds(arguments)
    service, profiles = the_service(arguments.file)
    scenario = scenario_of(service, profiles)
    console = Console(stderr=True)
    asked = settings_of(service, threads=arguments.threads, decisions=arguments.decisions)
    asked = replace(asked, seeds=seeds or asked.seeds, learner=arguments.learner or asked.learner)
    prepare_folder("--out", arguments.out)
    try:
        trained = train_into(scenario, asked, arguments.out, console)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {arguments.out}")
        raise
    except OSError as error:
        raise unwritable(f"--out {arguments.out}", error) from error
    if not arguments.no_evaluation:
        _evaluate(scenario, trained, arguments, console)
    if arguments.json:
        sys.stdout.write((arguments.out / SUMMARY).read_text(encoding="utf-8"))
    else:
        Console().print(_table(trained))
    return 0


def _checked_seeds(arguments: argparse.Namespace) -> tuple[int, ...] | None:
    if arguments.decisions is not None and arguments.decisions < LEAST_DECISIONS:
        raise TrainingArgumentError(f"--decisions {arguments.decisions}: give at least {LEAST_DECISIONS}")
    if arguments.decisions is not None and arguments.decisions > MOST_DECISIONS:
        raise TrainingArgumentError(f"--decisions: give at most {MOST_DECISIONS}")
    if arguments.threads < 1:
        raise TrainingArgumentError(f"--threads {arguments.threads}: give at least 1")
    if arguments.seeds is None:
        return None
    if arguments.seeds < 1:
        raise TrainingArgumentError(f"--seeds {arguments.seeds}: give at least 1")
    if arguments.seeds > MOST_SEEDS:
        raise TrainingArgumentError(f"--seeds {arguments.seeds}: give at most {MOST_SEEDS}")
    return tuple(range(1, arguments.seeds + 1))


def _evaluate(scenario: Scenario, trained: Trained, arguments: argparse.Namespace, console: Console) -> None:
    artifacts: Sequence[Path] = [folder for folder in (trained.policy, trained.network) if folder is not None]
    terms = Terms(load_suite(Part.TEST), load_suite(Part.VALIDATION), threads=arguments.threads)
    evaluation = judge(scenario, [str(folder) for folder in artifacts], terms, console)
    names = write(evaluation, arguments.out)
    if not arguments.json:
        out = Console()
        out.print(policies_table(evaluation.report), *comparisons_tables(evaluation.report))
    console.print(f"written to {arguments.out}: {', '.join(names)}")


def _table(trained: Trained) -> Table:
    table = Table(title=f"trained in {trained.seconds:.0f} s" + (" (shortened)" if trained.shortened else ""))
    for column in ("learner", "seed", "decisions", "share of peak on validation"):
        table.add_column(column, justify="left" if column == "learner" else "right")
    for each in trained.candidates:
        table.add_row(each.learner, str(each.seed), f"{each.decisions:,}", f"{each.performance:.4f}")
    return table


TRAIN = Command(
    name="train",
    summary="learn a policy for a service",
    extra="training",
    configure=configure,
    run=run,
)
