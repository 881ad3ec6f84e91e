"""Candidates (model x GPU) of a decision: which few are looked at, what is observed of each, and their base score.

Layout `candidate/1`. The same weights score every candidate, so nothing here depends on how many models or GPUs there
are: everything is relative (to the deadline, the best model, the middle model's work, the mean GPU). Loaded plainly by
the router and compiled by the simulator.
"""

import math

from bes_router.policy import placement as place
from bes_router.policy.formula import predicted_finish
from bes_router.policy.layout import Catalogue, LoadView, MutableFloats, MutableInts, RoutingRequest
from bes_router.policy.reward import eligible
from bes_router.policy.rules import expected_share

LAYOUT = "candidate/1"
FEATURES = (
    "quality",
    "quality_less_best",
    "finish_alone",
    "finish_shared",
    "quality_in_time",
    "log_load",
    "log_neighbour_load",
    "neighbours_busy",
    "log_rate_fast",
    "log_rate_slow",
    "log_rate_change",
    "busy_share",
    "softness",
    "recency_engine",
    "recency_gpu",
    "added_work_load",
    "load_less_model_mean",
    "size",
    "log_prompt",
    "log_use",
    "log_model_load",
    "gpu_load_less_mean",
    "log_output",
    "log_deadline",
)
WIDTH = 24
PER_MODEL = 3
RECENT_SECONDS = 0.02
TYPICAL_PROMPT = 128.0
TYPICAL_OUTPUT = 16.0
TYPICAL_DEADLINE = 0.6

# Places in the base rule's parameters (`generic` of facts/learning.md, 4)
(
    MARGIN,
    MARGIN_SIZE,
    SPREAD,
    PRICE,
    PRICE_POWER,
    TOLL,
    TOLL_FAST,
    TOLL_SLOW,
    TOLL_BUSY,
    TOLL_NEIGHBOURS,
    TOLL_SIZE,
    SHARING,
    SHARING_SIZE,
    SHARING_HALF,
    SLOT_BONUS,
    SLOT_GATE,
) = range(16)
BASE_PARAMETERS = 16


def capacity(catalogue: Catalogue) -> int:
    """Most candidates that one decision can have."""
    return PER_MODEL * len(catalogue.context)


def candidates_of(
    catalogue: Catalogue, view: LoadView, request: RoutingRequest, model: int, engines: MutableInts, start: int
) -> int:
    """Write the pruned candidates of one model at ``engines[start:]``: least loaded, least finish, last sent to.

    Returns the place after the last one. The model must have a ready engine.
    """
    loaded = place.least_loaded(catalogue, view, model)
    engines[start] = loaded
    count = start + 1
    soonest = place.least_finish(catalogue, view, model, request.prompt_tokens, request.output_tokens)
    if soonest != loaded:
        engines[count] = soonest
        count += 1
    last = view.last_engine[model]
    if last >= 0 and last not in (loaded, soonest) and view.ready[last]:
        engines[count] = last
        count += 1
    return count


def sharing_cost(catalogue: Catalogue, view: LoadView, engine: int, base: MutableFloats) -> float:
    """What the base rule expects the GPU's neighbours to cost: sum of c * work^e * n / (n + h), 0 where isolated."""
    gpu = catalogue.engine_gpu[engine]
    slow = catalogue.interference[gpu]
    if slow <= 0.0:
        return 0.0
    cost = 0.0
    for place_on in range(catalogue.gpu_first[gpu], catalogue.gpu_first[gpu + 1]):
        other = catalogue.gpu_engine[place_on]
        load = view.load[other]
        if other != engine and load > 0.0:
            heavy = math.exp(base[SHARING_SIZE] * catalogue.size[catalogue.engine_model[other]])
            cost += heavy * load / (load + base[SHARING_HALF])
    return slow * base[SHARING] * cost


def observe(
    catalogue: Catalogue,
    view: LoadView,
    request: RoutingRequest,
    now: float,
    base: MutableFloats,
    engines: MutableInts,
    scores: MutableFloats,
    features: MutableFloats,
) -> int:
    """Write every candidate's engine, base score and features; returns how many there are (0: nothing eligible).

    ``engines`` and ``scores`` have `capacity` places, ``features`` `capacity` rows of `WIDTH`.
    """
    models = len(catalogue.context)
    gpus = len(catalogue.interference)
    prompt = request.prompt_tokens
    output = request.output_tokens
    full = request.full_until - now
    zero = request.zero_from - now
    middle = max(1e-3, 0.5 * (full + zero))
    softness = (zero - full) / middle
    log_prompt = math.log(max(1, prompt) / TYPICAL_PROMPT)
    log_output = math.log(max(1, output) / TYPICAL_OUTPUT)
    log_deadline = math.log(middle / TYPICAL_DEADLINE)
    best_quality = 0.0
    for model in range(models):
        quality = catalogue.quality[request.task * models + model]
        if quality > best_quality and view.ready_count[model] > 0:
            best_quality = quality
    busy = 0.0
    load_sum = 0.0
    for gpu in range(gpus):
        busy += 1.0 if view.gpu_busy[gpu] > 1.0 else view.gpu_busy[gpu]
        load_sum += view.gpu_load[gpu]
    busy /= gpus
    mean_gpu_load = load_sum / gpus
    slot = place.slot_gpu(catalogue, now)
    bunch = base[SLOT_BONUS] if view.rate_slow > base[SLOT_GATE] * gpus else 0.0
    count = 0
    for model in range(models):
        if request.pinned >= 0 and request.pinned != model:
            continue
        if not eligible(catalogue, model, request.task, view.ready_count[model], prompt + output):
            continue
        replicas = view.ready_count[model]
        quality = catalogue.quality[request.task * models + model]
        size = catalogue.size[model]
        work = catalogue.work[model]
        fast = math.log(0.02 + view.rate_fast * work / replicas)
        slow = math.log(0.02 + view.rate_slow * work / replicas)
        mean_load = view.model_load[model] / replicas
        log_mean = math.log(1.0 + mean_load)
        use = math.log(0.05 + mean_load / catalogue.max_batch[model])
        toll = base[TOLL] + base[TOLL_FAST] * fast + base[TOLL_SLOW] * slow + base[TOLL_SIZE] * size
        toll += base[TOLL_BUSY] * (busy - 0.3)
        margin = base[MARGIN] + base[MARGIN_SIZE] * size
        first = count
        count = candidates_of(catalogue, view, request, model, engines, first)
        for row in range(first, count):
            engine = engines[row]
            gpu = catalogue.engine_gpu[engine]
            load = view.load[engine]
            alone = predicted_finish(catalogue, model, load, prompt, output)
            neighbours = place.neighbours_busy(catalogue, view, engine)
            shared = alone * (1.0 + catalogue.interference[gpu] * neighbours)
            relative = alone * (1.0 + sharing_cost(catalogue, view, engine, base))
            in_time = quality * expected_share(relative, full, zero, margin, base[SPREAD])
            added = work * load
            near = relative / middle
            log_neighbours = math.log(1.0 + max(0.0, view.gpu_load[gpu] - load))
            score = in_time - base[PRICE] * added * near ** base[PRICE_POWER]
            score -= math.exp(min(20.0, toll + base[TOLL_NEIGHBOURS] * log_neighbours))
            if gpu == slot:
                score += bunch
            scores[row] = score
            at = row * WIDTH
            features[at] = quality
            features[at + 1] = 4.0 * (quality - best_quality)
            features[at + 2] = min(3.0, alone / middle)
            features[at + 3] = min(3.0, shared / middle)
            features[at + 4] = in_time
            features[at + 5] = 0.5 * math.log(1.0 + load)
            features[at + 6] = 0.5 * log_neighbours
            features[at + 7] = 0.5 * neighbours
            features[at + 8] = 0.5 * fast
            features[at + 9] = 0.5 * slow
            features[at + 10] = fast - slow
            features[at + 11] = busy
            features[at + 12] = softness
            features[at + 13] = math.exp(max(-30.0, (view.sent_engine[engine] - now) / RECENT_SECONDS))
            features[at + 14] = math.exp(max(-30.0, (view.sent_gpu[gpu] - now) / RECENT_SECONDS))
            features[at + 15] = min(3.0, added / middle)
            features[at + 16] = max(-3.0, min(3.0, 0.2 * (load - mean_load)))
            features[at + 17] = size
            features[at + 18] = log_prompt
            features[at + 19] = 0.5 * use
            features[at + 20] = 0.5 * log_mean
            features[at + 21] = max(-3.0, min(3.0, 0.1 * (view.gpu_load[gpu] - mean_gpu_load)))
            features[at + 22] = log_output
            features[at + 23] = log_deadline
    return count
