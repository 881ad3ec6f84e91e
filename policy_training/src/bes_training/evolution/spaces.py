"""What a search may turn: vectors of numbers, and the brains that they mean.

Every space searches around 0 with steps of about 1: a coordinate's ``start`` and ``step`` place it, and coordinates
that must stay positive are exponents. The same table serves rules, the scorer's base rule and its weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates, rules
from bes_router.policy import placement as place
from bes_router.policy.layout import Catalogue
from bes_training.simulation.brain import Brain
from bes_training.simulation.simulate import learned_brain, rule_brain

Float = NDArray[np.float64]
HIDDEN_UNITS = 16


@dataclass(frozen=True)
class Space:
    """A family of brains over vectors. ``start`` and ``step`` are in the units of the vector; ``diagonal``: CMA's."""

    name: str
    start: Float
    step: Float
    brain: Callable[[Float], Brain]
    diagonal: bool = False

    @property
    def size(self) -> int:
        """Numbers to find."""
        return len(self.start)

    def at(self, point: Float) -> Float:
        """The vector at a point of the search (0 = start, 1 = one step)."""
        return self.start + self.step * point


PLACEMENT_NAMES = {place.LEAST_LOADED: "LeastLoaded", place.LEAST_FINISH: "LeastFinish", place.BUNCHED: "Bunched"}
LOG_GATE = np.log(25.0)  # requests per second and GPU: about where the study's gates lay


def _gate(placement: int, exponent: float) -> float:
    return float(np.exp(exponent)) if placement == place.BUNCHED else rules.NO_GATE


def static_space(catalogue: Catalogue, model: int, placement: int) -> Space:
    """Always one model; only the bunching gate can be tuned, and only where there is one."""
    bunched = placement == place.BUNCHED

    def brain(vector: Float) -> Brain:
        gate = _gate(placement, vector[0]) if bunched else rules.NO_GATE
        return rule_brain(catalogue, rules.STATIC, placement, np.array([gate, float(model)]))

    start = np.full(int(bunched), LOG_GATE)
    return Space(f"Static{model}/{PLACEMENT_NAMES[placement]}", start, np.full(int(bunched), 0.7), brain)


def deadline_space(catalogue: Catalogue, placement: int) -> Space:
    """DeadlineAware: bunching gate and margin."""

    def brain(vector: Float) -> Brain:
        parameters = np.array([_gate(placement, vector[0]), vector[1]])
        return rule_brain(catalogue, rules.DEADLINE_AWARE, placement, parameters)

    name = f"DeadlineAware/{PLACEMENT_NAMES[placement]}"
    return Space(name, np.array([LOG_GATE, 0.2]), np.array([0.7, 0.2]), brain)


def priced_space(catalogue: Catalogue, placement: int, gated: bool) -> Space:
    """Priced: bunching gate, margin, width, price, exponents, and (gated) one rate gate per model but the least."""
    models = len(catalogue.context)
    work = np.asarray(catalogue.work)
    # Gates are in work per second and replica: a model is off when it alone could not carry that share of the traffic.
    start_gates = np.where(work > work.min(), np.log(1.5), np.log(rules.NO_GATE)) if gated else np.zeros(0)
    step_gates = np.where(work > work.min(), 0.5, 0.0) if gated else np.zeros(0)

    def brain(vector: Float) -> Brain:
        gates = np.exp(vector[6:]) if gated else np.full(models, rules.NO_GATE)
        own = [vector[1], np.exp(vector[2]), np.exp(vector[3]), vector[4], vector[5]]
        parameters = np.concatenate([[_gate(placement, vector[0])], own, gates])
        return rule_brain(catalogue, rules.PRICED, placement, parameters)

    start = np.concatenate([[LOG_GATE, 0.1, np.log(0.12), 0.0, 1.0, 0.5], start_gates])
    step = np.concatenate([[0.7, 0.15, 0.6, 1.0, 0.4, 0.5], step_gates])
    return Space(f"Priced{'Gated' if gated else ''}/{PLACEMENT_NAMES[placement]}", start, step, brain)


def threshold_space(catalogue: Catalogue, placement: int) -> Space:
    """Threshold: bunching gate and a log load threshold per task and model."""
    tasks, models = len(catalogue.full_until), len(catalogue.context)
    ranks = np.argsort(np.argsort(-np.asarray(catalogue.work)))
    start = np.concatenate([[LOG_GATE], np.tile(np.log(3.0 * 4.0**ranks), tasks)])

    def brain(vector: Float) -> Brain:
        parameters = np.concatenate([[_gate(placement, vector[0])], np.exp(vector[1:])])
        return rule_brain(catalogue, rules.THRESHOLD, placement, parameters)

    return Space(f"Threshold/{PLACEMENT_NAMES[placement]}", start, np.full(1 + tasks * models, 0.7), brain)


# About the middle of what searches on isolated and on time-sliced GPUs found from worse starts (training traces only).
BASE_START = np.array(
    [0.0, -0.1, np.log(0.13), np.log(0.24), 1.0, -4.0, 0.3, 0.8, -0.4, 0.4, 0.4, np.log(0.8), 0.0, 0.01, LOG_GATE - 0.4]
)
BASE_STEP = np.array([0.15, 0.1, 0.5, 1.0, 0.4, 1.0, 0.4, 0.6, 0.7, 0.3, 0.5, 0.6, 0.1, 0.03, 0.7])
BASE_EXPONENTS = (candidates.SPREAD, candidates.PRICE, candidates.SHARING, candidates.SLOT_GATE)


def base_parameters(vector: Float) -> Float:
    """The base rule's parameters that a vector means."""
    parameters = vector.copy()
    for index in BASE_EXPONENTS:
        parameters[index] = np.exp(vector[index])
    return parameters


def base_vector(parameters: Float) -> Float:
    """The vector that means the base rule's ``parameters``."""
    vector = parameters.copy()
    for index in BASE_EXPONENTS:
        vector[index] = np.log(parameters[index])
    return vector


def alike(weights: Float) -> Float:
    """Weights for a known and for a guessed load that are the same."""
    return np.stack([weights, weights])


def base_space(catalogue: Catalogue) -> Space:
    """The scorer's base rule alone (after `generic` of facts/learning.md, 4)."""

    def brain(vector: Float) -> Brain:
        none, silent = np.zeros(0), np.zeros((2, candidates.WIDTH))
        return learned_brain(catalogue, alike(base_parameters(vector)), silent, none, none, np.zeros((2, 0)))

    return Space("Base", BASE_START, BASE_STEP, brain)


def linear_space(catalogue: Catalogue, base: Float) -> Space:
    """24 linear weights on a base rule (``base`` as parameters)."""
    width = candidates.WIDTH

    def brain(vector: Float) -> Brain:
        none = np.zeros(0)
        return learned_brain(catalogue, alike(base), alike(vector), none, none, np.zeros((2, 0)))

    return Space("Linear", np.zeros(width), np.full(width, 0.02), brain)


def split_weights(vector: Float) -> tuple[Float, Float, Float, Float]:
    """linear [W], hidden [H * W], bias [H], out [H] of a scorer's vector."""
    width, units = candidates.WIDTH, HIDDEN_UNITS
    linear, hidden, bias, out = np.split(vector, np.cumsum([width, width * units, units]))
    return linear, hidden, bias, out


def scorer_space(catalogue: Catalogue, base: Float, linear: Float, generator: np.random.Generator) -> Space:
    """The scorer with one hidden layer on a base rule, starting from linear weights and a silent random layer."""
    width, units = candidates.WIDTH, HIDDEN_UNITS

    def brain(vector: Float) -> Brain:
        weights, hidden, bias, out = (np.ascontiguousarray(part) for part in split_weights(vector))
        return learned_brain(catalogue, alike(base), alike(weights), hidden, bias, alike(out))

    first = generator.normal(0.0, 1.0 / np.sqrt(width), width * units)
    start = np.concatenate([linear, first, np.zeros(units), np.zeros(units)])
    step = np.concatenate([np.full(width, 0.012), np.full(width * units + units, 0.25), np.full(units, 0.03)])
    return Space("Scorer", start, step, brain, diagonal=True)


GUESSED_BASE_STEP = 0.8 * BASE_STEP
GUESSED_LINEAR_STEP, GUESSED_OUT_STEP = 0.03, 0.05
"""Larger than where the load is known: of two routers with old figures each takes half of such a step."""


def guessed_weights(vector: Float) -> tuple[Float, Float, Float]:
    """base (as parameters), linear and out of a guess's vector."""
    base, linear, out = np.split(vector, np.cumsum([candidates.BASE_PARAMETERS, candidates.WIDTH]))
    return base_parameters(base), linear, out


def guessed_space(catalogue: Catalogue, base: Float, linear: Float, hidden: Float, bias: Float, out: Float) -> Space:
    """Base rule, linear and out weights for a guessed load; for a known one everything stays as it is given."""

    def brain(vector: Float) -> Brain:
        guessed = guessed_weights(vector)
        ends = [np.stack([known, guess]) for known, guess in zip((base, linear, out), guessed, strict=True)]
        return learned_brain(catalogue, ends[0], ends[1], hidden, bias, ends[2])

    start = np.concatenate([base_vector(base), linear, out])
    steps = [GUESSED_BASE_STEP, np.full(len(linear), GUESSED_LINEAR_STEP), np.full(len(out), GUESSED_OUT_STEP)]
    return Space("Guessed", start, np.concatenate(steps), brain)


def opponents(catalogue: Catalogue) -> list[Space]:
    """Every hand-written rule with every placement."""
    spaces: list[Space] = []
    for placement in PLACEMENT_NAMES:
        spaces.extend(static_space(catalogue, model, placement) for model in range(len(catalogue.context)))
        spaces.append(deadline_space(catalogue, placement))
        spaces.append(threshold_space(catalogue, placement))
        spaces.extend(priced_space(catalogue, placement, gated) for gated in (False, True))
    return spaces
