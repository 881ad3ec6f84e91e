"""The one table of rules across fields: evaluated here, and written so that each can be rendered as CEL.

A check sees only the node at its rule's path (as a CEL rule sees ``self``), compares, counts and matches, and yields
where the rule is broken, relative to that node. Messages are static, unique, and say the mend.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bes_api import rule_checks as checks
from bes_api.location import Location
from bes_api.presets import LATENCY_PRESETS, PRESET_DEVICE_CLASS
from bes_api.service import BestEffortService

HERE: Location = ()


@dataclass(frozen=True)
class Rule:
    """One rule: ``check`` gets each node at ``path`` (``[*]`` = every element) and yields where it is broken."""

    id: str
    path: str
    message: str
    check: Callable[[Any], Iterable[Location]]


@dataclass(frozen=True)
class Violation:
    """A rule that a service breaks, and where."""

    rule: Rule
    location: Location


def violations(service: BestEffortService) -> tuple[Violation, ...]:
    """Everything that the service breaks, in the order of the table."""
    return tuple(
        Violation(rule, location + relative)
        for rule in RULES
        for location, node in _nodes(service, rule.path)
        for relative in rule.check(node)
    )


def _nodes(root: BaseModel, path: str) -> Iterator[tuple[Location, Any]]:
    """Every node at ``path`` with its location; a path through something absent has none."""
    found: list[tuple[Location, Any]] = [(HERE, root)]
    for step in path.split(".") if path else ():
        name = step.removesuffix("[*]")
        children = [((*location, name), _member(node, name)) for location, node in found]
        found = [child for child in children if child[1] is not None]
        if step.endswith("[*]"):
            found = [((*location, i), item) for location, items in found for i, item in enumerate(items)]
    yield from found


def _member(node: BaseModel, alias: str) -> Any:
    for name, field in type(node).model_fields.items():
        if (field.alias or name) == alias:
            return getattr(node, name)
    raise LookupError(f"{type(node).__name__} has no field {alias}")


RULES: tuple[Rule, ...] = (
    Rule(
        "service-name",
        "",
        "the service's name starts with a letter and has at most 30 lower-case letters, digits and hyphens (objects "
        'derived from it need room): choose one such as "opt"',
        checks.service_name,
    ),
    Rule(
        "named-like-service",
        "",
        "clients write the service's name for its default task, so no model and no other task may have it: rename one",
        checks.named_like_service,
    ),
    Rule("group-twice", "spec", "two accelerator groups have this name: rename one", checks.group_twice),
    Rule("model-twice", "spec", "two models have this name: rename one", checks.model_twice),
    Rule("task-twice", "spec", "two tasks have this name: rename one", checks.task_twice),
    Rule(
        "engine-missing",
        "spec",
        "this model has no engine: set spec.engine.type for all models, or engine.type here",
        checks.engine_missing,
    ),
    Rule(
        "group-unknown",
        "spec",
        "no accelerator group has this name: add it to spec.acceleratorGroups, or name one that is there",
        checks.unknown_group,
    ),
    Rule(
        "group-memory",
        "spec",
        "the models of this group take more than 100 percent of its fullest GPU (replica i of each sits on GPU i mod "
        "gpus, ranges count at their maximum): lower memoryPercent or replicas, or add gpus",
        checks.group_memory,
    ),
    Rule(
        "preset-class",
        "spec",
        f"latency presets were measured on {PRESET_DEVICE_CLASS} and this model's group has another class: measure a "
        "profile and name it by profile.configMapRef",
        checks.preset_class,
    ),
    Rule("default-task-unknown", "spec", "no task has this name: name one of spec.tasks", checks.unknown_default_task),
    Rule(
        "task-named-like-model",
        "spec",
        "clients name tasks and models in one field, so a task may not have a model's name: rename the task",
        checks.task_named_like_model,
    ),
    Rule(
        "quality-model-unknown",
        "spec",
        "no model has this name: state quality only for names in spec.models, or add the model",
        checks.quality_unknown_model,
    ),
    Rule(
        "tokens-too-many",
        "spec",
        "prompt and output together exceed contextTokens of every model with a quality for this task: lower them, or "
        "add a model with a longer context",
        checks.nothing_fits,
    ),
    Rule(
        "static-model-unknown",
        "spec",
        "the static policy names a model that is not there: name one of spec.models",
        checks.static_unknown,
    ),
    Rule(
        "fallback-model-unknown",
        "spec",
        "the static fallback names a model that is not there: name one of spec.models",
        checks.fallback_static_unknown,
    ),
    Rule(
        "interference-unmeasured",
        "spec.acceleratorGroups[*]",
        "how much models disturb each other under MPS must be measured: set interferencePercent",
        checks.interference_unmeasured,
    ),
    Rule(
        "replicas-union",
        "spec.models[*]",
        "a model has either a number of replicas or a range: set exactly one of replicas and replicaRange",
        checks.replicas_union,
    ),
    Rule(
        "replica-range-order",
        "spec.models[*].replicaRange",
        "min is above max: raise max or lower min",
        checks.range_order,
    ),
    Rule(
        "profile-union",
        "spec.models[*].profile",
        "a profile has one origin: set exactly one of preset and configMapRef",
        checks.profile_union,
    ),
    Rule(
        "preset-unknown",
        "spec.models[*].profile",
        f"no preset has this name: choose one of {', '.join(LATENCY_PRESETS)}, or give a profile by configMapRef",
        checks.unknown_preset,
    ),
    Rule(
        "profile-missing",
        "spec.models[*]",
        "nothing is known of this modelID's latency: give the profile of a similar model by profile.preset, or a "
        "measured one by profile.configMapRef",
        checks.profile_missing,
    ),
    Rule(
        "quality-range",
        "spec.tasks[*]",
        'quality is outside 0..1: write it as a fraction such as "0.579"',
        checks.quality_range,
    ),
    Rule(
        "quality-nothing",
        "spec.tasks[*]",
        "no model has a quality above 0 for this task, so nothing could be gained: state at least one",
        checks.quality_nothing,
    ),
    Rule(
        "deadline-union",
        "spec.tasks[*].deadline",
        "a deadline is hard or soft: set exactly one of hard and soft",
        checks.deadline_union,
    ),
    Rule(
        "deadline-hard-zero",
        "spec.tasks[*].deadline",
        'nothing is answered within no time: set a hard deadline above 0, for example "600ms"',
        checks.hard_zero,
    ),
    Rule(
        "deadline-soft-zero",
        "spec.tasks[*].deadline.soft",
        'fullUntil must be above 0: set for example "600ms"',
        checks.soft_zero,
    ),
    Rule(
        "deadline-soft-order",
        "spec.tasks[*].deadline.soft",
        "zeroFrom is not after fullUntil: set a later zeroFrom, or use a hard deadline",
        checks.soft_order,
    ),
    Rule(
        "load-union",
        "spec.load",
        "load figures have one source: set exactly one of direct and prometheus",
        checks.load_union,
    ),
    Rule("load-interval-zero", "spec.load", 'the interval must be above 0: set for example "1s"', checks.interval_zero),
    Rule(
        "stale-early",
        "spec.load",
        "staleAfter is shorter than one interval, so figures would be unknown between scrapes: raise it to at least "
        "the interval (three of them is usual)",
        checks.stale_early,
    ),
    Rule(
        "ca-without-https",
        "spec.load.prometheus",
        "certificates say whom to trust over https, and this URL is http: write https in url or remove caConfigMapRef",
        checks.ca_without_https,
    ),
    Rule(
        "join-label-matched",
        "spec.load.prometheus",
        "the join label tells engines apart, so a matcher may not fix its value: remove the matcher or choose another "
        "joinLabel",
        checks.join_label_matched,
    ),
    Rule(
        "static-missing",
        "spec.policy",
        "a policy of type Static needs its model: set policy.static.model",
        checks.static_missing,
    ),
    Rule(
        "static-unused",
        "spec.policy",
        "static settings belong to type Static alone: remove policy.static or set policy.type to Static",
        checks.static_unused,
    ),
    Rule(
        "fallback-static-missing",
        "spec.policy.fallback",
        "a fallback of type Static needs its model: set policy.fallback.static.model",
        checks.fallback_static_missing,
    ),
    Rule(
        "fallback-static-unused",
        "spec.policy.fallback",
        "static settings of the fallback belong to type Static alone: remove them or set its type to Static",
        checks.fallback_static_unused,
    ),
    Rule(
        "source-union",
        "spec.policy.source",
        "a learned policy has one source: set exactly one source, for example training: {}",
        checks.source_union,
    ),
    Rule(
        "margin-range",
        "spec.policy.promotion",
        'margin is outside 0..1: write a share of peak performance such as "0.01"',
        checks.margin_range,
    ),
)
"""The table."""
