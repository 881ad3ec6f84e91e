"""Rules about names: the service's own, and what models, tasks and groups call each other."""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

import re
from collections.abc import Iterable

from bes_api.location import Location
from bes_api.quantities import SERVICE_NAME_PATTERN
from bes_api.rules.rule import Rule, broken, twice
from bes_api.service import BestEffortService, ServiceSpec


def service_name(service: BestEffortService) -> Iterable[Location]:
    return broken(re.fullmatch(SERVICE_NAME_PATTERN, service.name) is None, "metadata", "name")


def named_like_service(service: BestEffortService) -> Iterable[Location]:
    spec = service.spec
    for i, model in enumerate(spec.models):
        yield from broken(model.name == service.name, "spec", "models", i, "name")
    for i, task in enumerate(spec.tasks):
        yield from broken(task.name == service.name and task.name != spec.default_task, "spec", "tasks", i, "name")


def unknown_group(spec: ServiceSpec) -> Iterable[Location]:
    names = {group.name for group in spec.accelerator_groups}
    for i, model in enumerate(spec.models):
        unknown = model.accelerator is not None and model.accelerator.group not in names
        yield from broken(unknown, "models", i, "accelerator", "group")


def unknown_default_task(spec: ServiceSpec) -> Iterable[Location]:
    return broken(spec.default_task not in {task.name for task in spec.tasks}, "defaultTask")


def task_named_like_model(spec: ServiceSpec) -> Iterable[Location]:
    names = {model.name for model in spec.models}
    for i, task in enumerate(spec.tasks):
        yield from broken(task.name in names, "tasks", i, "name")


def quality_unknown_model(spec: ServiceSpec) -> Iterable[Location]:
    names = {model.name for model in spec.models}
    for i, task in enumerate(spec.tasks):
        for model in task.quality:
            yield from broken(model not in names, "tasks", i, "quality", model)


def static_unknown(spec: ServiceSpec) -> Iterable[Location]:
    static = spec.policy.static
    unknown = static is not None and static.model not in {model.name for model in spec.models}
    return broken(unknown, "policy", "static", "model")


def fallback_static_unknown(spec: ServiceSpec) -> Iterable[Location]:
    static = spec.policy.fallback.static
    unknown = static is not None and static.model not in {model.name for model in spec.models}
    return broken(unknown, "policy", "fallback", "static", "model")


RULES: tuple[Rule, ...] = (
    Rule(
        "service-name",
        ("",),
        "the service's name starts with a letter and has at most 30 lower-case letters, digits and hyphens (objects "
        'derived from it need room): choose one such as "opt"',
        service_name,
        f"self.metadata.name.matches(r'{SERVICE_NAME_PATTERN}')",
    ),
    Rule(
        "named-like-service",
        ("",),
        "clients write the service's name for its default task, so no model and no other task may have it: rename one",
        named_like_service,
        "self.spec.models.all(m, m.name != self.metadata.name) && "
        "self.spec.tasks.all(t, t.name != self.metadata.name || t.name == self.spec.defaultTask)",
    ),
    Rule(
        "group-twice",
        ("spec.acceleratorGroups",),
        "two accelerator groups have this name: rename one",
        twice("name", "name"),
        None,
    ),
    Rule("model-twice", ("spec.models",), "two models have this name: rename one", twice("name", "name"), None),
    Rule("task-twice", ("spec.tasks",), "two tasks have this name: rename one", twice("name", "name"), None),
    Rule(
        "group-unknown",
        ("spec",),
        "no accelerator group has this name: add it to spec.acceleratorGroups, or name one that is there",
        unknown_group,
        "self.models.all(m, !has(m.accelerator) || (has(self.acceleratorGroups) && "
        "self.acceleratorGroups.exists(g, g.name == m.accelerator.group)))",
        "models",
    ),
    Rule(
        "default-task-unknown",
        ("spec",),
        "no task has this name: name one of spec.tasks",
        unknown_default_task,
        "self.tasks.exists(t, t.name == self.defaultTask)",
        "defaultTask",
    ),
    Rule(
        "task-named-like-model",
        ("spec",),
        "clients name tasks and models in one field, so a task may not have a model's name: rename the task",
        task_named_like_model,
        "self.tasks.all(t, !self.models.exists(m, m.name == t.name))",
        "tasks",
    ),
    Rule(
        "quality-model-unknown",
        ("spec",),
        "no model has this name: state quality only for names in spec.models, or add the model",
        quality_unknown_model,
        "self.tasks.all(t, t.quality.all(q, self.models.exists(m, m.name == q)))",
        "tasks",
    ),
    Rule(
        "static-model-unknown",
        ("spec",),
        "the static policy names a model that is not there: name one of spec.models",
        static_unknown,
        "!has(self.policy) || !has(self.policy.static) || self.models.exists(m, m.name == self.policy.static.model)",
        "policy.static.model",
    ),
    Rule(
        "fallback-model-unknown",
        ("spec",),
        "the static fallback names a model that is not there: name one of spec.models",
        fallback_static_unknown,
        "!has(self.policy) || !has(self.policy.fallback) || !has(self.policy.fallback.static) || "
        "self.models.exists(m, m.name == self.policy.fallback.static.model)",
        "policy.fallback.static.model",
    ),
)
