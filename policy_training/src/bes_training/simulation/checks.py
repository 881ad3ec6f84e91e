"""What must hold of a run's ingredients before compiled code, which checks no bounds, reads them. Raises ValueError."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates, paper
from bes_router.policy.defaults import default_parameters
from bes_router.policy.layout import Catalogue
from bes_training.simulation.circumstances import LoadFigures
from bes_training.workloads.workload import Workload

Float = NDArray[np.float64]


def check_workload(catalogue: Catalogue, workload: Workload, routers: int) -> None:
    """Tasks and routers exist, lengths are counts."""
    if not len(workload):
        return
    for what, values, count in (
        ("router", workload.router, routers),
        ("task", workload.task, len(catalogue.full_until)),
    ):
        if values.min() < 0 or values.max() >= count:
            worst = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"workload {workload.id!r} names {what} {worst}, there are {count}, counted from 0")
    for what, lengths in (("prompt_tokens", workload.prompt_tokens), ("output_tokens", workload.output_tokens)):
        if lengths.min() < 0:
            raise ValueError(f"workload {workload.id!r}: {what} holds {lengths.min()}; lengths are counts of tokens")


def check_figures(figures: LoadFigures, engines: int) -> None:
    """A phase per engine where there are scrapes, and polls that are answered before the next one is made."""
    if not figures.polls:
        raise ValueError("load figures need one entry per router in polls")
    if not figures.interval >= 0.0:
        raise ValueError(f"an interval of {figures.interval} s; give seconds, 0 (live) or infinity (never)")
    if not figures.outage[0] <= figures.outage[1]:
        raise ValueError(f"the outage {figures.outage} must begin before it ends")
    if not 0.0 < figures.interval < math.inf:
        return
    if len(figures.phases) != engines:
        raise ValueError(f"load figures have {len(figures.phases)} phases, one per engine ({engines}) is needed")
    for router, poll in enumerate(figures.polls):
        if not 0.0 <= poll.delay < poll.interval:
            raise ValueError(
                f"router {router}: a delay of {poll.delay} s must lie in 0..interval ({poll.interval} s) of its polls, "
                "else no answer arrives"
            )
        if poll.share is not None and not 0.0 < poll.share <= 1.0:
            raise ValueError(f"router {router}: a share of {poll.share} must lie in 0..1, without 0")
        if not 0.0 <= poll.lag < figures.interval:
            raise ValueError(f"router {router}: a lag of {poll.lag} s must lie in 0..interval ({figures.interval} s)")


def check_deaths(catalogue: Catalogue, deaths: tuple[tuple[float, int, bool], ...]) -> None:
    """Sorted by time, on engines that exist."""
    engines = len(catalogue.engine_model)
    for _, engine, _ in deaths:
        if not 0 <= engine < engines:
            raise ValueError(f"deaths name engine {engine}, there are {engines}, counted from 0")
    times = [-math.inf, *(at for at, _, _ in deaths)]
    if not all(before <= after for before, after in pairwise(times)):
        raise ValueError("deaths must be sorted by time")


def check_deadline_factor(factor: float) -> None:
    """A finite number above 0."""
    if not 0.0 < factor < math.inf:
        raise ValueError(f"deadline_factor is {factor}; give a number above 0")


def check_parameters(catalogue: Catalogue, kind: int, parameters: Float) -> None:
    """As many parameters as the rule reads for this catalogue."""
    expected = len(default_parameters(catalogue, kind))
    if parameters.shape != (expected,):
        raise ValueError(f"the rule takes {expected} parameters for this catalogue, not {parameters.shape}")


def check_scorer(base: Float, linear: Float, hidden: Float, bias: Float, out: Float) -> None:
    """Base parameters [2, 15], linear [2, WIDTH], hidden [H * WIDTH], bias [H], out [2, H]."""
    units = bias.size
    for name, array, shape in (
        ("base parameters", base, (2, candidates.BASE_PARAMETERS)),
        ("linear", linear, (2, candidates.WIDTH)),
        ("hidden", hidden, (units * candidates.WIDTH,)),
        ("bias", bias, (units,)),
        ("out", out, (2, units)),
    ):
        if array.shape != shape:
            raise ValueError(f"the scorer's {name} have shape {array.shape}, expected {shape}")


def check_network(catalogue: Catalogue, layers: tuple[Float, ...]) -> None:
    """Weights [out * in] and bias of three layers, from the observation's width to one value per model."""
    inputs = paper.width_of(catalogue)
    for number, (weights, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True), start=1):
        if weights.shape != (inputs * bias.size,):
            raise ValueError(f"layer {number} has {weights.size} weights, expected {inputs} x {bias.size}")
        inputs = bias.size
    if inputs != len(catalogue.context):
        raise ValueError(f"the last layer has {inputs} values, expected one per model ({len(catalogue.context)})")
