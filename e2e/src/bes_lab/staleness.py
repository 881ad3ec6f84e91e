"""The suite again with old load figures and several routers: what every policy loses against its own live figure.

The same requests arrive at two or four routers, in equal shares or .7/.1/.1/.1; figures are live, 5 or 15 s old, from
engines that are scraped one by one. The routers ran before and know their shares; they go on estimating them. A policy
with old figures is compared with itself with live ones and the same routers. What several routers alone change is
stated apart: admission counts per router, so that a policy that buries its engines queues more.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from bes_api.comparison import compare, mean_per_workload
from bes_api.report import Comparison, WorkloadOutcome
from bes_lab.results import Record, Recorder
from bes_training.evaluation.command import Evaluation
from bes_training.evaluation.comparison import evaluate
from bes_training.evaluation.contestants import contestants_of
from bes_training.simulation.circumstances import LoadFigures
from bes_training.simulation.simulate import compiled_catalogue
from bes_training.workloads.requests import Mix, spread
from bes_training.workloads.workload import Workload

SPLITS: Mapping[str, tuple[float, ...]] = {
    "2": (0.5, 0.5),
    "4": (0.25, 0.25, 0.25, 0.25),
    "4u": (0.7, 0.1, 0.1, 0.1),
}
AGES = (5.0, 15.0)
LAG_SECONDS = 0.005
BAR = ">= -1"


@dataclass(frozen=True)
class Setting:
    """One repetition of the suite: how old figures are (seconds, 0 = live), how the traffic is shared."""

    age: float
    split: str

    @property
    def id(self) -> str:
        """Of its records, behind the sample's."""
        return f"stale.{self.age:g}s.{self.split}"

    @property
    def words(self) -> str:
        """For claims."""
        shares = SPLITS[self.split]
        how = "in equal shares" if len(set(shares)) == 1 else "in shares " + "/".join(f"{each:g}" for each in shares)
        figures = f"figures {self.age:g} s old" if self.age else "live figures"
        return f"{figures}, {len(shares)} routers {how}"

    def workloads(self, plain: Iterator[Workload]) -> Iterator[Workload]:
        """The same requests, arriving at the routers."""
        for workload in plain:
            yield spread(self._generator(workload), workload, Mix.given(np.array(SPLITS[self.split])))

    def figures(self, engines: int) -> Callable[[Workload], LoadFigures]:
        """What the routers see during a workload."""
        shares = SPLITS[self.split]

        def of(workload: Workload) -> LoadFigures:
            if self.age == 0.0:
                return LoadFigures.live(len(shares))
            old = LoadFigures.old(len(shares), engines, self.age, self._generator(workload))
            polls = zip(old.polls, shares, strict=True)
            return replace(old, polls=tuple(replace(poll, share=share, lag=LAG_SECONDS) for poll, share in polls))

        return of

    def _generator(self, workload: Workload) -> np.random.Generator:
        return np.random.default_rng([zlib.crc32(workload.id.encode()), len(SPLITS[self.split])])


def records(
    sample: str,
    evaluation: Evaluation,
    artifacts: Sequence[Path],
    bar: float | None,
    made_by: Recorder,
    console: Console,
    splits: Sequence[str] = tuple(SPLITS),
) -> Iterator[Record]:
    """Every setting's records; ``evaluation`` holds the same policies with one router, ``bar`` is the plain suite's."""
    for split in splits:
        live = Setting(0.0, split)
        console.print(f"{sample}: {live.words}")
        reference = repeated(evaluation, artifacts, live)
        alone = evaluation.report.outcomes
        yield from losses(sample, evaluation, Pair(reference, alone, "with one router"), live, made_by)
        for age in AGES:
            setting = Setting(age, split)
            console.print(f"{sample}: {setting.words}")
            outcomes = repeated(evaluation, artifacts, setting)
            yield from losses(sample, evaluation, Pair(outcomes, reference, "with live figures"), setting, made_by)
            if "Learned" in evaluation.contestants.policies:
                yield from against_comparator(sample, evaluation, outcomes, setting, bar, made_by)


def repeated(evaluation: Evaluation, artifacts: Sequence[Path], setting: Setting) -> tuple[WorkloadOutcome, ...]:
    """The evaluation's suite under a setting."""
    scenario = evaluation.scenario
    engines = len(compiled_catalogue(scenario.model_dump_json()).engine_model)
    policies = contestants_of(scenario, [str(each) for each in artifacts], setting.figures(engines)).policies
    workloads = setting.workloads(evaluation.suite.realise(evaluation.setting))
    return evaluate(evaluation.subject, policies, workloads, threads=len(os.sched_getaffinity(0)))


class Pair(NamedTuple):
    """Outcomes under a setting, and those that they are compared with."""

    outcomes: tuple[WorkloadOutcome, ...]
    reference: tuple[WorkloadOutcome, ...]
    named: str


def losses(
    sample: str,
    evaluation: Evaluation,
    pair: Pair,
    setting: Setting,
    made_by: Recorder,
) -> Iterator[Record]:
    """Learned policies, the comparator and whichever policy loses most, each against itself under the reference."""
    found = {
        name: compare(name, mean_per_workload(pair.outcomes, name), pair.named, mean_per_workload(pair.reference, name))
        for name in evaluation.contestants.policies
    }
    most = min(found.values(), key=lambda each: each.mean)
    shown = {"comparator": found[str(evaluation.report.comparator)], "most": most}
    shown |= {name: found[name] for name in ("Learned", "Paper") if name in found}
    for what, each in shown.items():
        who = f"{each.policy}, which loses most of {len(found)} policies," if what == "most" else each.policy
        yield made_by.record(
            f"{sample}.{setting.id}.{what}",
            f"{sample}, {setting.words}: {who} against itself {pair.named}, mean of {each.n} workloads "
            f"(worst {100 * each.worst:.1f}, {each.worst_workload})",
            100 * each.mean,
            "points of peak",
            BAR if setting.age > 0.0 else None,
        )


def against_comparator(
    sample: str,
    evaluation: Evaluation,
    outcomes: tuple[WorkloadOutcome, ...],
    setting: Setting,
    bar: float | None,
    made_by: Recorder,
) -> Iterator[Record]:
    """Learned against the plain suite's comparator, both under the setting."""
    rule = str(evaluation.report.comparator)
    found: Comparison = compare(
        "Learned", mean_per_workload(outcomes, "Learned"), rule, mean_per_workload(outcomes, rule)
    )
    where = f"{sample}, {setting.words}: Learned against the comparator, {rule},"
    for what, claim, measured, limit in (
        ("mean", f"mean of {found.n} workloads", found.mean, f">= {bar}"),
        ("low", "lower end of the paired 95 % interval", found.low, "> 0"),
        ("worst", f"on its worst workload, {found.worst_workload}", found.worst, BAR),
    ):
        yield made_by.record(
            f"{sample}.{setting.id}.{what}",
            f"{where} {claim}",
            100 * measured,
            "points of peak",
            None if bar is None else limit,
        )
