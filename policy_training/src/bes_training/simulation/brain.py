"""Any policy as arrays, and its decision: what a run of the simulator asks for every request.

Compiled with the run; `simulate` builds brains from rules and artifacts.
"""

from typing import Any, NamedTuple

from bes_router.policy import placement as place
from bes_router.policy.candidates import observe
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.paper import dense, observe_paper
from bes_router.policy.reward import eligible
from bes_router.policy.rules import choose_by_rule
from bes_router.policy.scorer import add_learned, best_of, mix

Array = Any  # numpy arrays; numba types them

LEARNED, PAPER = 4, 5  # after the rules' kinds


class Brain(NamedTuple):
    """Any policy as arrays. Rules read ``kind``, ``placement`` and ``parameters``; the others the rest."""

    kind: int
    placement: int  # of a rule
    pruned: int  # of a scorer: 1 = a few candidates per model, 0 = every engine
    parameters: Array  # of the rule, or (mixed for a decision) of the scorer's base rule
    linear: Array  # [WIDTH], mixed likewise
    hidden: Array  # [WIDTH * H], by features
    bias: Array  # [H]
    out: Array  # [H], mixed likewise
    ends: tuple[Array, Array, Array]  # of parameters, linear and out: where the load is known, then where it is guessed
    layers: tuple[
        Array, Array, Array, Array, Array, Array
    ]  # the paper's network: weights [in * out], bias, three times
    engines: Array  # scratch
    scores: Array
    features: Array
    units: Array
    inputs: Array
    first: Array
    second: Array
    values: Array


def choose_learned(catalogue: Catalogue, view: LoadView, request: RoutingRequest, now: float, brain: Brain) -> Decision:
    """The best candidate under base rule and scorer."""
    mix(brain.ends[0], view.guessed, brain.parameters)
    mix(brain.ends[1], view.guessed, brain.linear)
    mix(brain.ends[2], view.guessed, brain.out)
    count = observe(
        catalogue,
        view,
        request,
        now,
        brain.parameters,
        brain.pruned,
        brain.engines,
        brain.scores,
        brain.features,
    )
    if count == 0:
        return Decision(-1, -1)
    add_learned(brain.features, count, brain.linear, brain.hidden, brain.bias, brain.out, brain.scores, brain.units)
    engine = brain.engines[best_of(brain.scores, count)]
    return Decision(catalogue.engine_model[engine], engine)


def choose_paper(catalogue: Catalogue, view: LoadView, request: RoutingRequest, brain: Brain) -> Decision:
    """The eligible model of the highest value, on its least loaded engine."""
    observe_paper(catalogue, view, request, brain.inputs)
    layers = brain.layers
    dense(brain.inputs, layers[0], layers[1], brain.first, True)
    dense(brain.first, layers[2], layers[3], brain.second, True)
    dense(brain.second, layers[4], layers[5], brain.values, False)
    best = -1
    for model in range(len(catalogue.context)):
        if not eligible(catalogue, view, request, model):
            continue
        if best < 0 or brain.values[model] > brain.values[best]:
            best = model
    if best < 0:
        return Decision(-1, -1)
    return Decision(best, place.least_loaded(catalogue, view, best))


def choose(catalogue: Catalogue, view: LoadView, request: RoutingRequest, now: float, brain: Brain) -> Decision:
    """The decision of any policy."""
    if brain.kind == LEARNED:
        return choose_learned(catalogue, view, request, now, brain)
    if brain.kind == PAPER:
        return choose_paper(catalogue, view, request, brain)
    return choose_by_rule(catalogue, view, request, now, brain.kind, brain.placement, brain.parameters)
