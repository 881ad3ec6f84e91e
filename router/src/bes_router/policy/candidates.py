"""Candidates (model x GPU) of a decision: which few are looked at, what is observed of each, and their base score.

Layout `candidate/2`. The same weights score every candidate, so nothing here depends on how many models or GPUs there
are: everything is relative (to the deadline, the best model, the middle model's work, the mean GPU). Loaded plainly by
the router and compiled by the simulator.
"""

import math
from typing import Final, NamedTuple

from bes_router.policy import placement as place
from bes_router.policy.formula import finish_at, finish_terms
from bes_router.policy.layout import Catalogue, Floats, LoadView, MutableFloats, MutableInts, RoutingRequest
from bes_router.policy.reward import eligible

LAYOUT: Final = "candidate/2"
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
FEW_MODELS = 6
"""Up to so many models the engine on the quietest GPU is looked at too; beyond, two candidates a model are enough."""
RECENT_SECONDS = 0.02
TYPICAL_PROMPT = 128.0
TYPICAL_OUTPUT = 16.0
TYPICAL_DEADLINE = 0.6

# Places in the base rule's parameters (after `generic` of facts/learning.md, 4)
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
    SHARING_LOAD,
    SLOT_BONUS,
    SLOT_GATE,
) = range(15)
BASE_PARAMETERS = 15


def capacity(catalogue: Catalogue) -> int:
    """Most candidates that one decision can have."""
    return max(PER_MODEL * len(catalogue.context), len(catalogue.engine_model))


def candidates_of(
    catalogue: Catalogue, view: LoadView, model: int, quietest: int, engines: MutableInts, start: int
) -> int:
    """Write the pruned candidates of one model at ``engines[start:]``; returns the place after the last one.

    They are its least loaded engine, the one last sent to and (with few models) the one on the quietest GPU, so that a
    decision's cost hardly grows with the replicas. The model must have a ready engine.
    """
    loaded = place.least_loaded(catalogue, view, model)
    engines[start] = loaded
    count = start + 1
    models = len(catalogue.context)
    quiet = catalogue.engine_on[quietest * models + model] if models <= FEW_MODELS else -1
    if quiet >= 0 and quiet != loaded and view.ready[quiet]:
        engines[count] = quiet
        count += 1
    last = view.last_engine[model]
    if last >= 0 and last not in (loaded, quiet) and view.ready[last]:
        engines[count] = last
        count += 1
    return count


def every_engine(catalogue: Catalogue, view: LoadView, model: int, engines: MutableInts, start: int) -> int:
    """Write all ready engines of one model, to tell what pruning costs; returns the place after the last one."""
    count = start
    for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
        if view.ready[engine]:
            engines[count] = engine
            count += 1
    return count


class Surroundings(NamedTuple):
    """What all candidates of one decision have in common."""

    middle: float  # seconds to the deadline (the middle of a soft one)
    softness: float  # width of a soft deadline relative to that
    log_prompt: float
    log_output: float
    log_deadline: float
    best_quality: float
    busy: float  # share of GPUs at work
    mean_gpu_load: float
    slot: int  # the GPU of this 20-ms slot
    bunch: float  # bonus for that GPU
    quietest: int


def surroundings_of(
    catalogue: Catalogue, view: LoadView, request: RoutingRequest, now: float, base: Floats
) -> Surroundings:
    """See the class."""
    models = len(catalogue.context)
    gpus = len(catalogue.interference)
    full = request.full_until - now
    zero = request.zero_from - now
    middle = max(1e-3, 0.5 * (full + zero))
    best_quality = 0.0
    row = request.task * models
    for model in range(models):
        quality = catalogue.quality[row + model]
        if quality > best_quality and view.ready_count[model] > 0:
            best_quality = quality
    busy = 0.0
    load = 0.0
    for gpu in range(gpus):
        at_work = view.gpu_busy[gpu]
        busy += at_work if at_work < 1.0 else 1.0
        load += view.gpu_load[gpu]
    return Surroundings(
        middle,
        (zero - full) / middle,
        math.log(max(1, request.prompt_tokens) / TYPICAL_PROMPT),
        math.log(max(1, request.output_tokens) / TYPICAL_OUTPUT),
        math.log(middle / TYPICAL_DEADLINE),
        best_quality,
        busy / gpus,
        load / gpus,
        place.slot_gpu(catalogue, now),
        base[SLOT_BONUS] if view.rate_slow > base[SLOT_GATE] * gpus else 0.0,
        place.quietest_gpu(view),
    )


def observe(
    catalogue: Catalogue,
    view: LoadView,
    request: RoutingRequest,
    now: float,
    base: Floats,
    pruned: int,
    engines: MutableInts,
    scores: MutableFloats,
    features: MutableFloats,
) -> int:
    """Write every candidate's engine, base score and features; returns how many there are (0: nothing eligible).

    ``engines`` and ``scores`` have `capacity` places, ``features`` `capacity` rows of `WIDTH`. ``pruned`` 0 looks at
    every engine.
    """
    models = len(catalogue.context)
    around = surroundings_of(catalogue, view, request, now, base)
    count = 0
    for model in range(models):
        if not eligible(catalogue, view, request, model):
            continue
        first = count
        if pruned:
            count = candidates_of(catalogue, view, model, around.quietest, engines, first)
        else:
            count = every_engine(catalogue, view, model, engines, first)
        describe(catalogue, view, request, now, base, around, model, first, count, engines, scores, features)
    return count


def describe(
    catalogue: Catalogue,
    view: LoadView,
    request: RoutingRequest,
    now: float,
    base: Floats,
    around: Surroundings,
    model: int,
    first: int,
    end: int,
    engines: MutableInts,
    scores: MutableFloats,
    features: MutableFloats,
) -> None:
    """Base score and features of one model's candidates, ``engines[first:end]``."""
    middle = around.middle
    quality = catalogue.quality[request.task * len(catalogue.context) + model]
    size = catalogue.size[model]
    work = catalogue.work[model]
    replicas = view.ready_count[model]
    mean_load = view.model_load[model] / replicas
    mean_gpu_load = around.mean_gpu_load
    busy = around.busy
    fast = math.log(0.02 + view.rate_fast * work / replicas)
    slow = math.log(0.02 + view.rate_slow * work / replicas)
    use = 0.5 * math.log(0.05 + mean_load / catalogue.max_batch[model])
    log_mean = 0.5 * math.log(1.0 + mean_load)
    toll = base[TOLL] + base[TOLL_FAST] * fast + base[TOLL_SLOW] * slow + base[TOLL_SIZE] * size
    toll += base[TOLL_BUSY] * (busy - 0.3)
    toll_neighbours = base[TOLL_NEIGHBOURS]
    reach = 1.0 - base[MARGIN] - base[MARGIN_SIZE] * size
    sharpness = 1.0 / (base[SPREAD] + 0.25 * around.softness)
    price = base[PRICE] * work
    power = base[PRICE_POWER]
    less_best = 4.0 * (quality - around.best_quality)
    terms = finish_terms(catalogue, model, request.prompt_tokens, request.output_tokens)
    for row in range(first, end):
        engine = engines[row]
        gpu = catalogue.engine_gpu[engine]
        load = view.load[engine]
        gpu_load = view.gpu_load[gpu]
        alone = finish_at(terms, load) / middle
        neighbours = view.gpu_busy[gpu] - (load if load < 1.0 else 1.0)
        neighbours = neighbours if neighbours > 0.0 else 0.0  # quicker than max() where this runs plainly
        log_neighbours = math.log(1.0 + gpu_load - load) if gpu_load > load else 0.0
        shared = alone
        near = alone
        interference = catalogue.interference[gpu]
        if interference > 0.0 and neighbours > 0.0:
            shared += alone * interference * neighbours
            near += alone * interference * (base[SHARING] * neighbours + base[SHARING_LOAD] * log_neighbours)
            near = max(near, 1e-3)
        x = (reach - near) * sharpness
        in_time = quality / (1.0 + math.exp(-x)) if x > -30.0 else 0.0
        score = in_time - price * load * near**power
        score -= math.exp(min(20.0, toll + toll_neighbours * log_neighbours))
        if gpu == around.slot:
            score += around.bunch
        scores[row] = score
        since = (view.sent_engine[engine] - now) / RECENT_SECONDS
        since_gpu = (view.sent_gpu[gpu] - now) / RECENT_SECONDS
        at = row * WIDTH
        features[at] = quality
        features[at + 1] = less_best
        features[at + 2] = alone if alone < 3.0 else 3.0
        features[at + 3] = shared if shared < 3.0 else 3.0
        features[at + 4] = in_time
        features[at + 5] = 0.5 * math.log(1.0 + load)
        features[at + 6] = 0.5 * log_neighbours
        features[at + 7] = 0.5 * neighbours
        features[at + 8] = 0.5 * fast
        features[at + 9] = 0.5 * slow
        features[at + 10] = fast - slow
        features[at + 11] = busy
        features[at + 12] = around.softness
        features[at + 13] = math.exp(since) if since > -30.0 else 0.0
        features[at + 14] = math.exp(since_gpu) if since_gpu > -30.0 else 0.0
        features[at + 15] = min(3.0, work * load / middle)
        features[at + 16] = max(-3.0, min(3.0, 0.2 * (load - mean_load)))
        features[at + 17] = size
        features[at + 18] = around.log_prompt
        features[at + 19] = use
        features[at + 20] = log_mean
        features[at + 21] = max(-3.0, min(3.0, 0.1 * (gpu_load - mean_gpu_load)))
        features[at + 22] = around.log_output
        features[at + 23] = around.log_deadline
