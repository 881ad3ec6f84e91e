"""What must hold of a run's ingredients before compiled code, which checks no bounds, reads them. Raises ValueError."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates, paper
from bes_router.policy.defaults import default_parameters
from bes_router.policy.layout import Catalogue
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


def check_figures(
    interval: tuple[float, ...], phase: tuple[float, ...], delay: tuple[float, ...], skew: tuple[float, ...]
) -> None:
    """One entry per router in each, and a scrape that becomes visible before the next one is made."""
    if not len(interval) == len(phase) == len(delay) == len(skew) > 0:
        raise ValueError("load figures need one entry per router in interval, phase, delay and skew")
    for router, (each, late) in enumerate(zip(interval, delay, strict=True)):
        if not each >= 0.0:
            raise ValueError(f"router {router}: an interval of {each} s; give seconds, 0 (live) or infinity (never)")
        if each > 0.0 and not 0.0 <= late < each:
            raise ValueError(
                f"router {router}: a delay of {late} s must lie in 0..interval ({each} s), else no scrape arrives"
            )


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
    """Base parameters [16], linear [WIDTH], hidden [H * WIDTH], bias [H], out [H]."""
    units = out.size
    for name, array, size in (
        ("base parameters", base, candidates.BASE_PARAMETERS),
        ("linear", linear, candidates.WIDTH),
        ("hidden", hidden, units * candidates.WIDTH),
        ("bias", bias, units),
    ):
        if array.shape != (size,):
            raise ValueError(f"the scorer's {name} have shape {array.shape}, expected ({size},)")


def check_network(catalogue: Catalogue, layers: tuple[Float, ...]) -> None:
    """Weights [out * in] and bias of three layers, from the observation's width to one value per model."""
    inputs = paper.width_of(catalogue)
    for number, (weights, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True), start=1):
        if weights.shape != (inputs * bias.size,):
            raise ValueError(f"layer {number} has {weights.size} weights, expected {inputs} x {bias.size}")
        inputs = bias.size
    if inputs != len(catalogue.context):
        raise ValueError(f"the last layer has {inputs} values, expected one per model ({len(catalogue.context)})")
