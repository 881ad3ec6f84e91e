"""A scenario as the flat arrays that decisions read."""

import math
from statistics import fmean, median

from bes_api.scenario import Batching, Measure, OnMiss, Scenario
from bes_router.policy.layout import Catalogue

TYPICAL_BATCH = 16


def catalogue_of(scenario: Scenario) -> Catalogue:
    """The catalogue of ``scenario`` as lists; engines are numbered model by model, replica by replica."""
    models, tasks = scenario.models, scenario.tasks
    placed = [(index, gpu) for index, model in enumerate(models) for gpu in model.placement]
    by_gpu = [[engine for engine, (_, gpu) in enumerate(placed) if gpu == each] for each in range(len(scenario.gpus))]
    work = [_typical_work(scenario, index) for index in range(len(models))]
    middle = median(work)
    return Catalogue(
        prefill_base=[model.latency.prefill_base_ms / 1e3 for model in models],
        prefill_token=[model.latency.prefill_per_token_ms / 1e3 for model in models],
        decode_base=[model.latency.decode_base_ms / 1e3 for model in models],
        decode_sequence=[model.latency.decode_per_sequence_ms / 1e3 for model in models],
        decode_context=[model.latency.decode_per_context_token_ms / 1e3 for model in models],
        chunked=[int(model.batching is Batching.CHUNKED_PREFILL) for model in models],
        prefill_budget=[model.prefill_token_budget for model in models],
        max_batch=[model.max_batch_size for model in models],
        kv_tokens=[model.kv_cache_tokens for model in models],
        context=[model.context_tokens for model in models],
        work=work,
        size=[math.log(each / middle) for each in work],
        model_first=_offsets([model.max_replicas for model in models]),
        engine_model=[index for index, _ in placed],
        engine_gpu=[gpu for _, gpu in placed],
        gpu_first=_offsets([len(engines) for engines in by_gpu]),
        gpu_engine=[engine for engines in by_gpu for engine in engines],
        engine_on=[
            next((engine for engine in engines if placed[engine][0] == index), -1)
            for engines in by_gpu
            for index in range(len(models))
        ],
        interference=[gpu.interference for gpu in scenario.gpus],
        quality=[task.quality.get(model.name, -1.0) for task in tasks for model in models],
        best_quality=[max(task.quality.values(), default=0.0) for task in tasks],
        full_until=[task.full_until_seconds for task in tasks],
        zero_from=[task.zero_from_seconds for task in tasks],
        first_token=[int(task.measure is Measure.FIRST_TOKEN) for task in tasks],
        abort=[int(task.on_miss is OnMiss.ABORT) for task in tasks],
        prompt_tokens=[task.prompt_tokens for task in tasks],
        output_tokens=[task.output_tokens for task in tasks],
    )


def _offsets(counts: list[int]) -> list[int]:
    offsets = [0]
    for count in counts:
        offsets.append(offsets[-1] + count)
    return offsets


def _typical_work(scenario: Scenario, index: int) -> float:
    """Seconds of GPU time that one more request of the mean task costs a model that runs a batch of 16."""
    latency = scenario.models[index].latency
    batch = min(TYPICAL_BATCH, scenario.models[index].max_batch_size)
    prompt = fmean(task.prompt_tokens for task in scenario.tasks)
    output = fmean(task.output_tokens for task in scenario.tasks)
    step = (
        latency.decode_base_ms / batch
        + latency.decode_per_sequence_ms
        + latency.decode_per_context_token_ms * (prompt + output / 2)
    )
    milliseconds = latency.prefill_base_ms / 4 + latency.prefill_per_token_ms * prompt + (output - 1) * step
    return milliseconds / 1e3
