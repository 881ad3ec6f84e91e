"""The checks behind the table in ``rules``: each sees one node and yields where the rule is broken, relative to it.

They compare, count and match only, so that each can be rendered as CEL. Names say what is wrong; messages are there.
"""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from bes_api.location import Location
from bes_api.presets import LATENCY_PRESETS, PRESET_DEVICE_CLASS, PRESET_OF_MODEL_ID
from bes_api.quantities import SERVICE_NAME_PATTERN
from bes_api.service import (
    AcceleratorGroup,
    BestEffortService,
    Deadline,
    Fallback,
    Load,
    Model,
    Policy,
    PolicySource,
    PolicyType,
    Profile,
    PrometheusLoad,
    Promotion,
    ReplicaRange,
    RuleType,
    ServiceSpec,
    Sharing,
    SoftDeadline,
    Task,
)


def _broken(condition: bool, *location: str | int) -> Iterable[Location]:
    return (location,) if condition else ()


def _exactly_one(*members: object) -> bool:
    return sum(member is not None for member in members) == 1


def _repeated(names: Sequence[str], field: str) -> Iterable[Location]:
    return ((field, i, "name") for i, name in enumerate(names) if name in names[:i])


def service_name(service: BestEffortService) -> Iterable[Location]:
    return _broken(re.fullmatch(SERVICE_NAME_PATTERN, service.name) is None, "metadata", "name")


def named_like_service(service: BestEffortService) -> Iterable[Location]:
    spec = service.spec
    for i, model in enumerate(spec.models):
        yield from _broken(model.name == service.name, "spec", "models", i, "name")
    for i, task in enumerate(spec.tasks):
        yield from _broken(task.name == service.name and task.name != spec.default_task, "spec", "tasks", i, "name")


def group_twice(spec: ServiceSpec) -> Iterable[Location]:
    return _repeated([group.name for group in spec.accelerator_groups], "acceleratorGroups")


def model_twice(spec: ServiceSpec) -> Iterable[Location]:
    return _repeated([model.name for model in spec.models], "models")


def task_twice(spec: ServiceSpec) -> Iterable[Location]:
    return _repeated([task.name for task in spec.tasks], "tasks")


def engine_missing(spec: ServiceSpec) -> Iterable[Location]:
    for i, model in enumerate(spec.models):
        yield from _broken(spec.engine is None and model.engine is None, "models", i)


def unknown_group(spec: ServiceSpec) -> Iterable[Location]:
    names = {group.name for group in spec.accelerator_groups}
    for i, model in enumerate(spec.models):
        unknown = model.accelerator is not None and model.accelerator.group not in names
        yield from _broken(unknown, "models", i, "accelerator", "group")


def group_memory(spec: ServiceSpec) -> Iterable[Location]:
    for i, group in enumerate(spec.accelerator_groups):
        on_fullest = sum(  # GPU 0 holds replicas 0, gpus, 2 gpus, ... of every model
            -(-model.max_replicas // group.gpus) * model.accelerator.memory_percent
            for model in spec.models
            if model.accelerator is not None and model.accelerator.group == group.name
        )
        yield from _broken(on_fullest > 100, "acceleratorGroups", i)


def preset_class(spec: ServiceSpec) -> Iterable[Location]:
    classes = {group.name: group.device_class for group in spec.accelerator_groups}
    for i, model in enumerate(spec.models):
        if model.accelerator is None or (model.profile is not None and model.profile.config_map_ref is not None):
            continue
        device_class = classes.get(model.accelerator.group, PRESET_DEVICE_CLASS)
        yield from _broken(device_class != PRESET_DEVICE_CLASS, "models", i, "profile")


def unknown_default_task(spec: ServiceSpec) -> Iterable[Location]:
    return _broken(spec.default_task not in {task.name for task in spec.tasks}, "defaultTask")


def task_named_like_model(spec: ServiceSpec) -> Iterable[Location]:
    names = {model.name for model in spec.models}
    for i, task in enumerate(spec.tasks):
        yield from _broken(task.name in names, "tasks", i, "name")


def quality_unknown_model(spec: ServiceSpec) -> Iterable[Location]:
    names = {model.name for model in spec.models}
    for i, task in enumerate(spec.tasks):
        for model in task.quality:
            yield from _broken(model not in names, "tasks", i, "quality", model)


def nothing_fits(spec: ServiceSpec) -> Iterable[Location]:
    for i, task in enumerate(spec.tasks):
        contexts = [model.context_tokens for model in spec.models if model.name in task.quality]
        needed = task.tokens.prompt + task.tokens.output
        yield from _broken(bool(contexts) and all(needed > context for context in contexts), "tasks", i, "tokens")


def static_unknown(spec: ServiceSpec) -> Iterable[Location]:
    static = spec.policy.static
    unknown = static is not None and static.model not in {model.name for model in spec.models}
    return _broken(unknown, "policy", "static", "model")


def fallback_static_unknown(spec: ServiceSpec) -> Iterable[Location]:
    static = spec.policy.fallback.static
    unknown = static is not None and static.model not in {model.name for model in spec.models}
    return _broken(unknown, "policy", "fallback", "static", "model")


def interference_unmeasured(group: AcceleratorGroup) -> Iterable[Location]:
    return _broken(group.sharing is Sharing.MPS and group.interference_percent is None)


def replicas_union(model: Model) -> Iterable[Location]:
    return _broken(not _exactly_one(model.replicas, model.replica_range))


def range_order(replicas: ReplicaRange) -> Iterable[Location]:
    return _broken(replicas.min > replicas.max)


def profile_union(profile: Profile) -> Iterable[Location]:
    return _broken(not _exactly_one(profile.preset, profile.config_map_ref))


def unknown_preset(profile: Profile) -> Iterable[Location]:
    return _broken(profile.preset is not None and profile.preset not in LATENCY_PRESETS, "preset")


def profile_missing(model: Model) -> Iterable[Location]:
    return _broken(model.profile is None and model.model_id not in PRESET_OF_MODEL_ID, "profile")


def quality_range(task: Task) -> Iterable[Location]:
    for model, quality in task.quality.items():
        yield from _broken(not 0 <= quality <= 1, "quality", model)


def quality_nothing(task: Task) -> Iterable[Location]:
    return _broken(all(quality == 0 for quality in task.quality.values()), "quality")


def deadline_union(deadline: Deadline) -> Iterable[Location]:
    return _broken(not _exactly_one(deadline.hard, deadline.soft))


def hard_zero(deadline: Deadline) -> Iterable[Location]:
    return _broken(deadline.hard is not None and deadline.hard.within == timedelta(), "hard", "within")


def soft_zero(soft: SoftDeadline) -> Iterable[Location]:
    return _broken(soft.full_until == timedelta(), "fullUntil")


def soft_order(soft: SoftDeadline) -> Iterable[Location]:
    return _broken(soft.zero_from <= soft.full_until, "zeroFrom")


def load_union(load: Load) -> Iterable[Location]:
    return _broken(not _exactly_one(load.direct, load.prometheus))


def interval_zero(load: Load) -> Iterable[Location]:
    if load.direct is not None and load.direct.interval == timedelta():
        yield ("direct", "interval")
    if load.prometheus is not None and load.prometheus.scrape_interval == timedelta():
        yield ("prometheus", "scrapeInterval")


def stale_early(load: Load) -> Iterable[Location]:
    intervals = [load.direct.interval] if load.direct is not None else []
    intervals += [load.prometheus.scrape_interval] if load.prometheus is not None else []
    stale = load.stale_after
    return _broken(stale is not None and any(stale < interval for interval in intervals), "staleAfter")


def ca_without_https(prometheus: PrometheusLoad) -> Iterable[Location]:
    return _broken(
        prometheus.ca_config_map_ref is not None and not prometheus.url.startswith("https://"), "caConfigMapRef"
    )


def join_label_matched(prometheus: PrometheusLoad) -> Iterable[Location]:
    return _broken(prometheus.join_label in prometheus.matchers, "matchers", prometheus.join_label)


def static_missing(policy: Policy) -> Iterable[Location]:
    return _broken(policy.type is PolicyType.STATIC and policy.static is None)


def static_unused(policy: Policy) -> Iterable[Location]:
    return _broken(policy.type is not PolicyType.STATIC and policy.static is not None, "static")


def fallback_static_missing(fallback: Fallback) -> Iterable[Location]:
    return _broken(fallback.type is RuleType.STATIC and fallback.static is None)


def fallback_static_unused(fallback: Fallback) -> Iterable[Location]:
    return _broken(fallback.type is not RuleType.STATIC and fallback.static is not None, "static")


def source_union(source: PolicySource) -> Iterable[Location]:
    return _broken(not _exactly_one(source.training))


def margin_range(promotion: Promotion) -> Iterable[Location]:
    return _broken(not 0 <= promotion.margin <= 1, "margin")
