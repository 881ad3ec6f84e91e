"""The committed suite's records: learned policies against every rule and static model, on held-out workloads.

``python -m bes_lab.suite`` evaluates the policies that lie in docs/results/policies (made by `bes train`) and writes
docs/results/suite.json with pictures beside it. Good and bad figures alike.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from bes_api.command import exit_code_of
from bes_api.comparison import compare, mean_per_workload
from bes_api.documents import the_service
from bes_api.report import Comparison
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import staleness
from bes_lab.results import RESULTS, Record, Recorder, recorder, write
from bes_router.policy.artifact import read_artifact
from bes_training.evaluation.command import Evaluation, Terms, judge
from bes_training.evaluation.command import write as write_report
from bes_training.evaluation.comparison import BEST_STATIC, evaluate
from bes_training.evaluation.contestants import artifact_brain, simulated
from bes_training.learning.command import SUMMARY
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part

POLICIES = RESULTS / "policies"
SAMPLES = ("opt-paper", "opt-time-sliced", "opt-vllm")
TRAINED = ("opt-paper", "opt-time-sliced")
"""The samples whose bars count; opt-vllm is stated."""
BARS = {"opt-paper": 0.5, "opt-time-sliced": 1.5}
WORST = -1.0
STATIC_BAR = 4.0
FIVE = "opt-five"
LENT = "opt-time-sliced"
"""Whose scorer runs unchanged on `opt-five`."""


def scenario_named(sample: str, examples: Path) -> Scenario:
    """The scenario of one committed sample."""
    return scenario_of(*the_service(examples / f"{sample}.yaml"))


def artifacts_of(folder: Path) -> list[Path]:
    """The policies of one sample that are there."""
    return [each for each in (folder / "policy", folder / "dqn") if each.is_dir()]


def evaluated(sample: str, scenario: Scenario, folders: Sequence[Path], console: Console) -> Evaluation:
    """Rules and artifacts on the test suite."""
    console.print(f"{sample}: the suite")
    terms = Terms(load_suite(Part.TEST), load_suite(Part.VALIDATION), threads=len(os.sched_getaffinity(0)))
    return judge(scenario, [str(folder) for folder in folders], terms, console)


def against(evaluation: Evaluation, policy: str, other: str) -> Comparison:
    """One comparison of a report."""
    return next(each for each in evaluation.report.comparisons if each.policy == policy and each.against == other)


def comparator_records(sample: str, evaluation: Evaluation, made_by: Recorder) -> Iterator[Record]:
    """Learned and plain DQN against the comparator and against the best static of each workload."""
    rule = str(evaluation.report.comparator)
    bar = BARS.get(sample)
    for policy in ("Learned", "Paper"):
        if policy not in evaluation.contestants.policies:
            continue
        found = against(evaluation, policy, rule)
        learned = policy == "Learned" and bar is not None
        who = "Learned" if policy == "Learned" else "plain double DQN"
        yield made_by.record(
            f"{sample}.{policy}.mean",
            f"{sample}: {who} against the comparator, {rule}, mean of {found.n} workloads",
            100 * found.mean,
            "points of peak",
            f">= {bar}" if learned else None,
        )
        yield made_by.record(
            f"{sample}.{policy}.low",
            f"{sample}: {who} against the comparator, lower end of the paired 95 % interval",
            100 * found.low,
            "points of peak",
            "> 0" if learned else None,
        )
        yield made_by.record(
            f"{sample}.{policy}.worst",
            f"{sample}: {who} against the comparator on its worst workload, {found.worst_workload}",
            100 * found.worst,
            "points of peak",
            f">= {WORST:g}" if learned else None,
        )


def performance_records(sample: str, evaluation: Evaluation, made_by: Recorder) -> Iterator[Record]:
    """Every policy's mean performance, and the base rate that multiples refer to."""
    report = evaluation.report
    yield made_by.record(
        f"{sample}.base",
        f"{sample}: rate that the largest model alone serves with 99 % in time",
        report.base_rate,
        "/s",
    )
    for policy in evaluation.contestants.policies:
        mean = fmean(mean_per_workload(report.outcomes, policy).values())
        yield made_by.record(
            f"{sample}.share.{policy}", f"{sample}: {policy}, mean over the suite", 100 * mean, "% of peak"
        )


def seed_records(sample: str, folder: Path, made_by: Recorder) -> Iterator[Record]:
    """Every seed's validation figure, the ones that were not kept too."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    for each in summary["candidates"]:
        yield made_by.record(
            f"{sample}.seed.{each['learner']}.{each['seed']}",
            f"{sample}: {each['learner']} seed {each['seed']} on validation ({each['decisions']:,} decisions)",
            100 * each["performance"],
            "% of peak",
        )


def pruning_record(sample: str, evaluation: Evaluation, folder: Path, made_by: Recorder) -> Record:
    """What looking at a few candidates per model instead of all costs."""
    scenario, report = evaluation.scenario, evaluation.report
    whole = artifact_brain(scenario, read_artifact(folder))._replace(pruned=0)
    subject = evaluation.subject
    outcomes = evaluate(
        subject, {"whole": simulated(scenario, whole)}, load_suite(Part.TEST).realise(evaluation.setting)
    )
    pruned = mean_per_workload(report.outcomes, "Learned")
    found = compare("pruned", pruned, "whole", mean_per_workload(outcomes, "whole"))
    return made_by.record(
        f"{sample}.pruning",
        f"{sample}: what pruning candidates changes, mean of {found.n} workloads",
        100 * found.mean,
        "points of peak",
    )


def publish(evaluation: Evaluation, build: Path, pictures: Path) -> None:
    """The whole report (megabytes) into ``build``, its pictures beside the records."""
    pictures.mkdir(parents=True, exist_ok=True)
    for name in write_report(evaluation, build):
        if name.endswith(".png"):
            shutil.copyfile(build / name, pictures / f"{build.name}-{name}")


def run(given: argparse.Namespace, console: Console) -> None:
    """Everything; each sample's records are written as soon as they are known."""
    examples, policies, results = given.examples, given.policies, given.results
    statics: list[float] = []
    for sample in given.sample or SAMPLES:
        folder = policies / sample
        if not folder.is_dir():
            console.print(f"{sample}: no {folder}; train it with `bes train` and copy it there")
            continue
        made_by = recorder("python -m bes_lab.suite", 1, ("numba", "numpy", "cma", "torch"))
        artifacts = artifacts_of(folder)
        evaluation = evaluated(sample, scenario_named(sample, examples), artifacts, console)
        records = [
            *comparator_records(sample, evaluation, made_by),
            *performance_records(sample, evaluation, made_by),
            *seed_records(sample, folder, made_by),
            pruning_record(sample, evaluation, folder / "policy", made_by),
        ]
        publish(evaluation, given.build / sample, results / "suite")
        if sample in TRAINED:
            statics.append(100 * against(evaluation, "Learned", BEST_STATIC).mean)
        write("suite", records, results)
    if len(statics) == len(TRAINED):
        claim = "Learned above the best static of each workload, mean over the first two samples"
        made_by = recorder("python -m bes_lab.suite", 1, ("numba", "numpy", "cma"))
        record = made_by.record("statics", claim, fmean(statics), "points of peak", f">= {STATIC_BAR:g}")
        write("suite", [record], results)
    if given.sample is None:
        five(examples, policies, results, console)


def run_staleness(given: argparse.Namespace, console: Console) -> None:
    """Old figures and several routers; each sample's records are written as soon as they are known."""
    for sample in given.sample or TRAINED:
        artifacts = artifacts_of(given.policies / sample)
        made_by = recorder("python -m bes_lab.suite --staleness", 1, ("numba", "numpy"))
        evaluation = evaluated(sample, scenario_named(sample, given.examples), artifacts, console)
        write(
            "suite", staleness.records(sample, evaluation, artifacts, BARS.get(sample), made_by, console), given.results
        )


def five(examples: Path, policies: Path, results: Path, console: Console) -> None:
    """The scorer of three models, unchanged, on five models and 8 GPUs, against a gated price rule tuned there."""
    tuned = policies / FIVE
    if not (tuned / "policy").is_dir() or not (policies / LENT / "policy").is_dir():
        console.print(f"{FIVE}: needs {tuned} (for its tuned rules) and {policies / LENT}")
        return
    scenario = scenario_named(FIVE, examples)
    evaluation = evaluated(FIVE, scenario, [policies / LENT / "policy", tuned / "policy"], console)
    gated = [name for name in evaluation.contestants.rules if name.startswith("PricedGated")]
    outcomes = evaluation.report.outcomes
    best = max(gated, key=lambda name: fmean(mean_per_workload(outcomes, name).values()))
    found = compare("Learned", mean_per_workload(outcomes, "Learned"), best, mean_per_workload(outcomes, best))
    made_by = recorder("python -m bes_lab.suite", 1, ("numba", "numpy", "cma"))
    where = f"{FIVE}: the scorer of {LENT}, unchanged, against {best}, tuned there"
    write(
        "suite",
        [
            made_by.record(f"{FIVE}.mean", f"{where}, mean of {found.n} workloads", 100 * found.mean, "points", ">= 0"),
            made_by.record(f"{FIVE}.low", f"{where}, lower end of the 95 % interval", 100 * found.low, "points"),
            made_by.record(f"{FIVE}.worst", f"{where}, worst: {found.worst_workload}", 100 * found.worst, "points"),
            *performance_records(FIVE, evaluation, made_by),
        ],
        results,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bes_lab.suite", description=__doc__)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    parser.add_argument("--policies", type=Path, default=POLICIES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--build", type=Path, default=Path("build/suite"))
    parser.add_argument("--sample", action="append", choices=SAMPLES, help="only this one; default: all")
    parser.add_argument(
        "--staleness", action="store_true", help="instead: the first two samples with old figures and several routers"
    )
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.suite", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    (run_staleness if given.staleness else run)(given, Console(stderr=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
