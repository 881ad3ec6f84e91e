"""The gate: a candidate against the best of all rules, from the raw outcomes of its report. No claim counts."""

import re
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean

from bes_api.comparison import best_policy, compare, mean_per_workload
from bes_api.errors import ArtifactMisfitError
from bes_api.passport import Passport, TunedRule
from bes_api.report import EvaluationReport
from bes_api.router_config import (
    DeadlineAwarePolicy,
    Parameters,
    Placement,
    PricedPolicy,
    RulePolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_operator.policy.ledger import Judged

LEAST_WORKLOADS = 30
LEAST_DIFFERENCE = 0.01
"""Share of decisions in which a policy must differ from the rule to be worth its weights."""
KINDS: dict[str, type[DeadlineAwarePolicy | PricedPolicy | ThresholdPolicy]] = {
    "DeadlineAware": DeadlineAwarePolicy,
    "Priced": PricedPolicy,  # with rate gates it is called PricedGated
    "Threshold": ThresholdPolicy,
}
_TUNED = " (tuned)"
_STATIC = re.compile(r"Static\((?P<model>.+)\)(?:/(?P<placement>\w+))?")


@dataclass(frozen=True)
class Verdict:
    """What the gate found; ``rule`` is the comparator as a router takes it."""

    judged: Judged
    rule: RulePolicy
    figures: str
    """In words."""
    failures: tuple[str, ...]
    """Why it does not pass; empty: it does."""


def judge(report: EvaluationReport, passport: Passport, margin: Decimal) -> Verdict:
    """Judge the candidate of ``report``. Raises ArtifactMisfitError where the report is none to judge by.

    It passes when the lower end of the paired 95 % interval of (candidate - rule) over at least 30 test workloads is no
    lower than -margin, and when it decides differently in at least 1 % of decisions with a positive mean gain.
    """
    comparator = _comparator(report, passport)
    candidate = mean_per_workload(report.outcomes, passport.kind)
    rule = mean_per_workload(report.outcomes, comparator)
    if candidate.keys() != rule.keys() or len(candidate) < LEAST_WORKLOADS:
        raise ArtifactMisfitError(
            f"its report has {len(candidate)} test workloads of {passport.kind} and {len(rule)} of {comparator}, "
            f"and the same {LEAST_WORKLOADS} or more are needed; train again"
        )
    found = compare(passport.kind, candidate, comparator, rule)
    judged = Judged(
        score=fmean(candidate.values()),
        rule=comparator,
        rule_score=fmean(rule.values()),
        gain=found.mean,
        gain_low=found.low,
        differs=_differing(report, passport.kind),
        workloads=found.n,
    )
    figures = (
        f"{passport.kind} {judged.score:.4f} of peak, {comparator} {judged.rule_score:.4f}, gain {judged.gain:+.4f} "
        f"(95 % interval from {judged.gain_low:+.4f}) on {judged.workloads} workloads, "
        f"{100 * judged.differs:.1f} % of decisions differ"
    )
    if passport.training.shortened:
        figures += "; a shortened training"
    return Verdict(judged, rule_policy(comparator, passport), figures, failures_of(judged, margin))


def rule_policy(name: str, passport: Passport) -> RulePolicy:
    """The rule that a report calls ``name``, with the parameters it was tuned to. Raises ArtifactMisfitError."""
    plain = name.removesuffix(_TUNED)
    tuned = passport.tuned_rules.get(plain) if name != plain else TunedRule()
    if tuned is None:
        raise ArtifactMisfitError(f"its passport does not say how the rule {plain!r} was tuned; train again")
    if (static := _STATIC.fullmatch(plain)) is not None:
        placement = tuned.placement if name != plain else _placement(static["placement"])
        gate = max(0.0, tuned.parameters[0]) if tuned.parameters else 0.0
        return StaticPolicy(model=static["model"], placement=placement, gate=gate)
    kind = next((kind for kind in KINDS if plain.startswith(kind)), None)
    if kind is None:
        raise ArtifactMisfitError(f"its report knows a rule {plain!r}, which is none of this release; train again")
    parameters: Parameters = tuned.parameters
    return KINDS[kind](parameters=parameters, placement=tuned.placement)


def _placement(name: str | None) -> Placement:
    return Placement(name) if name in list(Placement) else Placement.LEAST_LOADED


def _comparator(report: EvaluationReport, passport: Passport) -> str:
    """The best of all rules on the validation workloads, chosen here again."""
    rules = list(dict.fromkeys(each.policy for each in report.validation))
    kinds = [*KINDS, *(f"Static({model})" for model in passport.models)]
    if missing := [kind for kind in kinds if not any(rule.startswith(kind) for rule in rules)]:
        raise ArtifactMisfitError(f"its report leaves out the rules {', '.join(missing)}; train again")
    workloads = {frozenset(mean_per_workload(report.validation, rule)) for rule in rules}
    if len(workloads) != 1:
        raise ArtifactMisfitError("its report compares rules on different validation workloads; train again")
    comparator = best_policy(report.validation, rules)
    if comparator != report.comparator:
        raise ArtifactMisfitError(
            f"its report names {report.comparator} as the best rule, and its validation says {comparator}; train again"
        )
    return comparator


def _differing(report: EvaluationReport, policy: str) -> float:
    """Share of decisions, over all runs of the policy, that are not the comparator's."""
    runs = [(each.requests, each.differs or 0.0) for each in report.outcomes if each.policy == policy]
    return sum(count * share for count, share in runs) / max(1, sum(count for count, _ in runs))


def failures_of(judged: Judged, margin: Decimal) -> tuple[str, ...]:
    """What a candidate with these figures does not pass by."""
    found = {
        f"the interval reaches below -{margin}": judged.gain_low < -float(margin),
        f"less than {100 * LEAST_DIFFERENCE:g} % of decisions differ": judged.differs < LEAST_DIFFERENCE,
        "nothing is gained": judged.gain <= 0,
    }
    return tuple(failure for failure, holds in found.items() if holds)
