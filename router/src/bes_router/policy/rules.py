"""The hand-written rules: a score per model, each with every placement. Plain functions, compiled by bes_training.

Every rule reads one vector of parameters: first the placement's rate gate (requests per second and GPU, above which
`BUNCHED` bunches), then its own. `bes_training` tunes them; the defaults here are untuned starting points.
"""

import math

from bes_router.policy import placement as place
from bes_router.policy.formula import predicted_finish
from bes_router.policy.layout import Catalogue, Decision, Floats, LoadView, RoutingRequest
from bes_router.policy.reward import eligible

STATIC, DEADLINE_AWARE, PRICED, THRESHOLD = range(4)

# Parameters: [0] bunching gate, then
#   STATIC          [1] model
#   DEADLINE_AWARE  [1] margin
#   PRICED          [1] margin [2] width [3] price [4] exponent of the load [5] exponent of the rate,
#                   [6 + m] rate gate of model m: work per second and replica above which it is off
#   THRESHOLD       [1 + task * M + m] mean load per replica above which model m is passed over for that task
GATE = 0
OWN = 1
PRICED_GATES = 6
NO_GATE = 1e9


def expected_share(finish: float, full: float, zero: float, margin: float, width: float) -> float:
    """Share of the quality to expect of an answer after ``finish`` seconds: a sigmoid about the deadline's middle.

    ``full`` and ``zero`` are seconds from now. Width and margin are relative to that middle; a soft deadline widens it.
    """
    middle = 0.5 * (full + zero)
    if middle <= 0.0:
        return 0.0
    spread = width + 0.25 * (zero - full) / middle
    x = (1.0 - margin - finish / middle) / spread
    if x < -30.0:
        return 0.0
    if x > 30.0:
        return 1.0
    return 1.0 / (1.0 + math.exp(-x))


def place_by(
    catalogue: Catalogue, view: LoadView, request: RoutingRequest, now: float, placement: int, gate: float, model: int
) -> int:
    """The engine of ``model`` by a placement strategy; bunching only above its gate (requests/s per GPU, 2-s mean)."""
    if placement == place.LEAST_FINISH:
        return place.least_finish(catalogue, view, model, request.prompt_tokens, request.output_tokens)
    if placement == place.BUNCHED and view.rate_slow > gate * len(catalogue.interference):
        return place.bunched(catalogue, view, model, now)
    return place.least_loaded(catalogue, view, model)


def finish_on(catalogue: Catalogue, view: LoadView, request: RoutingRequest, engine: int) -> float:
    """Predicted seconds until the request finishes on ``engine``, slowed by its GPU's busy neighbours."""
    model = catalogue.engine_model[engine]
    finish = predicted_finish(catalogue, model, view.load[engine], request.prompt_tokens, request.output_tokens)
    slow = catalogue.interference[catalogue.engine_gpu[engine]]
    if slow > 0.0:
        finish *= 1.0 + slow * place.neighbours_busy(catalogue, view, engine)
    return finish


def priced_score(
    catalogue: Catalogue, view: LoadView, request: RoutingRequest, now: float, engine: int, parameters: Floats
) -> float:
    """Expected reward less the price of the work that the request adds to a loaded engine; off above the rate gate."""
    model = catalogue.engine_model[engine]
    models = len(catalogue.context)
    replicas = max(1, view.ready_count[model])
    use = view.rate_slow * catalogue.work[model] / replicas
    if use > parameters[PRICED_GATES + model]:
        return -1e3 - catalogue.work[model]
    share = expected_share(
        finish_on(catalogue, view, request, engine),
        request.full_until - now,
        request.zero_from - now,
        parameters[1],
        parameters[2],
    )
    price = parameters[3] * catalogue.work[model]
    price *= math.exp(parameters[4] * math.log(0.1 + view.load[engine]) + parameters[5] * math.log(0.01 + use))
    return catalogue.quality[request.task * models + model] * share - price


def rule_score(
    catalogue: Catalogue,
    view: LoadView,
    request: RoutingRequest,
    now: float,
    engine: int,
    kind: int,
    parameters: Floats,
) -> float:
    """The score of one engine's model under rule ``kind``; the highest wins."""
    model = catalogue.engine_model[engine]
    models = len(catalogue.context)
    quality = catalogue.quality[request.task * models + model]
    if kind == STATIC:
        return 1.0 if model == int(parameters[OWN]) else -catalogue.work[model]
    if kind == DEADLINE_AWARE:
        finish = finish_on(catalogue, view, request, engine)
        if finish <= (request.full_until - now) * (1.0 - parameters[OWN]):
            return 1.0 + quality
        return -finish
    if kind == PRICED:
        return priced_score(catalogue, view, request, now, engine, parameters)
    mean = view.model_load[model] / max(1, view.ready_count[model])
    if mean <= parameters[OWN + request.task * models + model]:
        return 1.0 + quality
    return -catalogue.work[model]


def best_possible(catalogue: Catalogue, task: int, model: int, kind: int, parameters: Floats) -> float:
    """No engine of ``model`` scores higher than this under rule ``kind``, whatever the load."""
    if kind == STATIC:
        return 1.0 if model == int(parameters[OWN]) else -catalogue.work[model]
    quality = catalogue.quality[task * len(catalogue.context) + model]
    if kind == PRICED:
        return quality if parameters[3] >= 0.0 else 1e300
    return 1.0 + quality


def choose_by_rule(
    catalogue: Catalogue,
    view: LoadView,
    request: RoutingRequest,
    now: float,
    kind: int,
    placement: int,
    parameters: Floats,
) -> Decision:
    """The best eligible model under a rule, on the engine that the placement names; engine -1 if none is eligible.

    Ties go to the model that is listed first. People list models from small to large: looked at from the last one on,
    most of the others cannot score higher and need no engine.
    """
    best = Decision(-1, -1)
    highest = -1e300
    for model in range(len(catalogue.context) - 1, -1, -1):
        if best_possible(catalogue, request.task, model, kind, parameters) < highest:
            continue
        if not eligible(catalogue, view, request, model):
            continue
        engine = place_by(catalogue, view, request, now, placement, parameters[GATE], model)
        score = rule_score(catalogue, view, request, now, engine, kind, parameters)
        if score >= highest:
            highest = score
            best = Decision(model, engine)
    return best
