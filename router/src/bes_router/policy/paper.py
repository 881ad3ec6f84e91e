"""Layout `paper/1`: exactly the paper's state and network. Loaded plainly by the router, compiled by the simulator.

State: one-hot task, requests in flight per model, an estimate of the arrival rate. Action: the model. Placement: least
loaded. Scaling is ours (the paper states none): in flight over the model's batch capacity, rate over 100 per second
and GPU.
"""

from typing import Final

from bes_router.policy.layout import Catalogue, Floats, LoadView, MutableFloats, RoutingRequest

LAYOUT: Final = "paper/1"
RATE_SCALE = 100.0


def width_of(catalogue: Catalogue) -> int:
    """Length of the observation: tasks + models + 1."""
    return len(catalogue.full_until) + len(catalogue.context) + 1


def observe_paper(catalogue: Catalogue, view: LoadView, request: RoutingRequest, out: MutableFloats) -> None:
    """Write the observation into ``out`` [tasks + models + 1]."""
    tasks = len(catalogue.full_until)
    models = len(catalogue.context)
    for task in range(tasks):
        out[task] = 0.0
    out[request.task] = 1.0
    for model in range(models):
        replicas = catalogue.model_first[model + 1] - catalogue.model_first[model]
        out[tasks + model] = view.model_load[model] / (0.25 * catalogue.max_batch[model] * replicas)
    out[tasks + models] = view.rate_fast / (RATE_SCALE * len(catalogue.interference))


def dense(inputs: Floats, weights: Floats, bias: Floats, out: MutableFloats, rectify: bool) -> None:
    """One layer: ``out = inputs weights + bias``, rectified where asked.

    ``weights`` is [inputs * outputs], an input's weights to all outputs side by side: the inner loop is one vector
    operation, and an input that the layer before rectified to 0 costs nothing.
    """
    size = len(bias)
    for row in range(size):
        out[row] = bias[row]
    for column in range(len(inputs)):
        value = inputs[column]
        if value != 0.0:
            at = column * size
            for row in range(size):
                out[row] += weights[at + row] * value
    if rectify:
        for row in range(size):
            out[row] = max(out[row], 0.0)
