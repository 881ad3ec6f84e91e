"""Rules about tasks: quality, deadlines, and whether anything can answer them."""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

from collections.abc import Iterable
from datetime import timedelta

from bes_api.location import Location
from bes_api.rules.rule import Rule, broken, exactly_one
from bes_api.service import Deadline, ServiceSpec, SoftDeadline, Task


def nothing_fits(spec: ServiceSpec) -> Iterable[Location]:
    for i, task in enumerate(spec.tasks):
        contexts = [model.context_tokens for model in spec.models if model.name in task.quality]
        needed = task.tokens.prompt + task.tokens.output
        yield from broken(bool(contexts) and all(needed > context for context in contexts), "tasks", i, "tokens")


def quality_range(task: Task) -> Iterable[Location]:
    for model, quality in task.quality.items():
        yield from broken(not 0 <= quality <= 1, "quality", model)


def quality_nothing(task: Task) -> Iterable[Location]:
    return broken(all(quality == 0 for quality in task.quality.values()), "quality")


def deadline_union(deadline: Deadline) -> Iterable[Location]:
    return broken(not exactly_one(deadline.hard, deadline.soft))


def hard_zero(deadline: Deadline) -> Iterable[Location]:
    return broken(deadline.hard is not None and deadline.hard.within == timedelta(), "hard", "within")


def soft_zero(soft: SoftDeadline) -> Iterable[Location]:
    return broken(soft.full_until == timedelta(), "fullUntil")


def soft_order(soft: SoftDeadline) -> Iterable[Location]:
    return broken(soft.zero_from <= soft.full_until, "zeroFrom")


RULES: tuple[Rule, ...] = (
    Rule(
        "tokens-too-many",
        ("spec",),
        "prompt and output together exceed contextTokens of every model with a quality for this task: lower them, or "
        "add a model with a longer context",
        nothing_fits,
        "self.tasks.all(t, !self.models.exists(m, m.name in t.quality) || self.models.exists(m, m.name in t.quality "
        "&& m.contextTokens >= t.tokens.prompt + t.tokens.output))",
        "tasks",
    ),
    Rule(
        "quality-range",
        ("spec.tasks[*]",),
        'quality is outside 0..1: write it as a fraction such as "0.579"',
        quality_range,
        "self.quality.all(q, double(self.quality[q]) >= 0.0 && double(self.quality[q]) <= 1.0)",
        "quality",
    ),
    Rule(
        "quality-nothing",
        ("spec.tasks[*]",),
        "no model has a quality above 0 for this task, so nothing could be gained: state at least one",
        quality_nothing,
        "self.quality.exists(q, double(self.quality[q]) != 0.0)",
        "quality",
    ),
    Rule(
        "deadline-union",
        ("spec.tasks[*].deadline",),
        "a deadline is hard or soft: set exactly one of hard and soft",
        deadline_union,
        "has(self.hard) != has(self.soft)",
    ),
    Rule(
        "deadline-hard-zero",
        ("spec.tasks[*].deadline",),
        'nothing is answered within no time: set a hard deadline above 0, for example "600ms"',
        hard_zero,
        "!has(self.hard) || duration(self.hard.within) > duration('0s')",
        "hard.within",
    ),
    Rule(
        "deadline-soft-zero",
        ("spec.tasks[*].deadline.soft",),
        'fullUntil must be above 0: set for example "600ms"',
        soft_zero,
        "duration(self.fullUntil) > duration('0s')",
        "fullUntil",
    ),
    Rule(
        "deadline-soft-order",
        ("spec.tasks[*].deadline.soft",),
        "zeroFrom is not after fullUntil: set a later zeroFrom, or use a hard deadline",
        soft_order,
        "duration(self.zeroFrom) > duration(self.fullUntil)",
        "zeroFrom",
    ),
)
