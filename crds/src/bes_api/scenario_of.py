"""From a valid service to its scenario: what the simulator reads, and nothing else of the resource."""

from collections.abc import Mapping

from bes_api.engines import ENGINES
from bes_api.errors import ScenarioError
from bes_api.presets import LATENCY_PRESETS, PRESET_OF_MODEL_ID
from bes_api.profile import ModelProfile, Profiles
from bes_api.resolved_engine import engine_of
from bes_api.scenario import Measure, OnMiss, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_api.service import AcceleratorGroup, BestEffortService, EngineType, Model, ServiceSpec, Task


def scenario_of(service: BestEffortService, profiles: Profiles) -> Scenario:
    """The scenario of a service that keeps every rule (see ``rules.violations``).

    GPUs are those of the groups in order, then one per replica of each model without a group. ``replicas: N`` becomes
    the range 1..N. Raises ScenarioError if a profile is missing or does not fit the model.
    """
    spec = service.spec
    gpus, first_gpu = _grouped_gpus(spec.accelerator_groups)
    models = []
    for model in spec.models:
        placement = _placement(model, spec, first_gpu, len(gpus))
        if model.accelerator is None:
            gpus.extend(ScenarioGPU() for _ in placement)
        models.append(_scenario_model(model, engine_of(spec, model).type, profile_of(model, profiles), placement))
    return Scenario(
        gpus=tuple(gpus),
        models=tuple(models),
        tasks=tuple(_scenario_task(task, spec) for task in spec.tasks),
        default_task=spec.default_task,
        max_in_flight=spec.router.max_in_flight,
        workload=spec.policy.source.training.workload.preset if spec.policy.source.training else "RandomWalk",
        training_revision=spec.policy.source.training.revision if spec.policy.source.training else 1,
    )


def profile_of(model: Model, profiles: Profiles) -> ModelProfile:
    """The profile that the model names, else the preset of its ``modelID``. Raises ScenarioError."""
    source = model.profile
    if source is not None and source.config_map_ref is not None:
        name = source.config_map_ref.name
        if name not in profiles:
            raise ScenarioError(
                f"model {model.name!r}: there is no ConfigMap {name!r} with its profile beside the service"
            )
        return profiles[name]
    preset = LATENCY_PRESETS.get(source.preset or "") if source is not None else PRESET_OF_MODEL_ID.get(model.model_id)
    if preset is None:
        raise ScenarioError(
            f"model {model.name!r} has no latency profile: name a preset ({', '.join(LATENCY_PRESETS)}) or a ConfigMap"
        )
    return preset.profile


def interference_percent(group: AcceleratorGroup) -> int:
    """What a group's interference is where the resource leaves it out (rules refuse that for MPS)."""
    if group.interference_percent is not None:
        return group.interference_percent
    return 100


def _grouped_gpus(groups: tuple[AcceleratorGroup, ...]) -> tuple[list[ScenarioGPU], Mapping[str, int]]:
    gpus: list[ScenarioGPU] = []
    first: dict[str, int] = {}
    for group in groups:
        first[group.name] = len(gpus)
        gpus.extend([ScenarioGPU(group=group.name, interference=interference_percent(group) / 100)] * group.gpus)
    return gpus, first


def _placement(model: Model, spec: ServiceSpec, first_gpu: Mapping[str, int], free_gpu: int) -> tuple[int, ...]:
    if model.accelerator is None:
        return tuple(range(free_gpu, free_gpu + model.max_replicas))
    name = model.accelerator.group
    size = next(group.gpus for group in spec.accelerator_groups if group.name == name)
    return tuple(first_gpu[name] + replica % size for replica in range(model.max_replicas))


def _scenario_model(
    model: Model, engine: EngineType, profile: ModelProfile, placement: tuple[int, ...]
) -> ScenarioModel:
    if profile.kv_cache_tokens < model.context_tokens:
        raise ScenarioError(
            f"model {model.name!r}: its profile's KV cache holds {profile.kv_cache_tokens} tokens, less than "
            f"contextTokens {model.context_tokens}, so a request could wait for ever: lower contextTokens"
        )
    facts = ENGINES[engine]
    return ScenarioModel(
        name=model.name,
        latency=profile.latency,
        batching=facts.batching,
        prefill_token_budget=facts.prefill_token_budget,
        max_batch_size=model.max_batch_size or profile.max_batch_size,
        kv_cache_tokens=profile.kv_cache_tokens,
        context_tokens=model.context_tokens,
        min_replicas=model.replica_range.min if model.replica_range else 1,
        placement=placement,
    )


def _scenario_task(task: Task, spec: ServiceSpec) -> ScenarioTask:
    hard, soft = task.deadline.hard, task.deadline.soft
    if hard is not None:
        full_until = zero_from = hard.within
    elif soft is not None:
        full_until, zero_from = soft.full_until, soft.zero_from
    else:
        raise ScenarioError(f"task {task.name!r} has no deadline: set hard or soft")
    return ScenarioTask(
        name=task.name,
        full_until_seconds=full_until.total_seconds(),
        zero_from_seconds=zero_from.total_seconds(),
        measure=Measure(task.deadline.measure),
        on_miss=OnMiss(task.deadline.on_miss),
        quality={model.name: float(task.quality[model.name]) for model in spec.models if model.name in task.quality},
        prompt_tokens=task.tokens.prompt,
        output_tokens=task.tokens.output,
    )
