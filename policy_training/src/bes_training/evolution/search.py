"""One search by CMA-ES over a space: generations on few traces, validation that picks, progress and Ctrl-C."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bes_training.evolution.spaces import Space
from bes_training.evolution.traces import Field

with warnings.catch_warnings():  # cma says at its import that it could not plot without matplotlib; nobody asks it to
    warnings.filterwarnings("ignore", message="Could not import matplotlib.pyplot", category=UserWarning)
    import cma

Float = NDArray[np.float64]
REGRET = 3.0
"""Weight of losing to the best simple rule on a trace: keeps the search from paying for bursts at 1x."""


@dataclass(frozen=True)
class SearchSettings:
    """How hard to search. ``decisions`` are simulated ones, validation left out."""

    decisions: int
    seed: int
    population: int = 16
    traces_per_generation: int = 8
    """Few: many rough generations found more than few careful ones (measured at 8 and 16)."""
    sigma: float = 0.5
    validate_every: int = 6
    patience: float = 1e-3
    """A search whose step has shrunk to this share of its start has converged and stops."""


@dataclass(frozen=True)
class Found:
    """What a search kept: the vector that validated best."""

    name: str
    vector: Float
    validation_loss: float
    decisions: int
    generations: int
    curve: tuple[tuple[int, float], ...] = field(default=())
    """(decisions, validation loss) at each validation."""


def objective(losses: Float, reference: Float | None) -> Float:
    """Mean loss per brain, plus the penalty for losing to ``reference`` (the best simple rule's loss per trace)."""
    mean: Float = losses.mean(axis=1)
    if reference is None:
        return mean
    penalty: Float = REGRET * np.maximum(0.0, losses - reference).mean(axis=1)
    return mean + penalty


def search(
    space: Space,
    training: Field,
    validation: Field,
    settings: SearchSettings,
    reference: tuple[Float, Float] | None = None,
    on_generation: Callable[[int, float], None] | None = None,
) -> Found:
    """Search ``space``. ``reference``: losses of the best simple rule on all training and all validation traces.

    ``on_generation`` is told the decisions spent so far and the best validation loss; an exception it raises ends the
    search.
    """
    if space.size < 2:  # CMA-ES has no covariance to adapt there
        return sweep(space, training, validation)
    generator = np.random.default_rng(settings.seed)
    options: dict[str, Any] = {
        "popsize": settings.population,
        "seed": settings.seed + 1,
        "verbose": -9,
        "CMA_diagonal": space.diagonal,
    }
    strategy = cma.CMAEvolutionStrategy(np.zeros(space.size), settings.sigma, options)
    everything = range(len(validation.traces))
    spent_before = training.decisions
    best, best_loss, curve = space.start, np.inf, []
    generation = 0

    def validate(points: list[Float]) -> None:
        nonlocal best, best_loss
        vectors = [space.at(point) for point in points]
        losses = validation.losses([space.brain(vector) for vector in vectors], everything)
        values = objective(losses, reference[1] if reference else None)
        index = int(values.argmin())
        if values[index] < best_loss:
            best, best_loss = vectors[index], float(values[index])
        curve.append((training.decisions - spent_before, float(values[index])))

    validate([np.zeros(space.size)])
    while training.decisions - spent_before < settings.decisions:
        which = generator.choice(len(training.traces), settings.traces_per_generation, replace=False).tolist()
        points = strategy.ask()
        losses = training.losses([space.brain(space.at(point)) for point in points], which)
        values = objective(losses, reference[0][which] if reference else None)
        strategy.tell(points, values.tolist())
        generation += 1
        if generation % settings.validate_every == 0:
            validate([np.asarray(strategy.result.xfavorite), np.asarray(points[int(values.argmin())])])
        if on_generation is not None:
            on_generation(training.decisions - spent_before, best_loss)
        if float(np.max(strategy.stds)) < settings.patience * settings.sigma:
            break
    validate([np.asarray(strategy.result.xfavorite)])
    return Found(space.name, best, best_loss, training.decisions - spent_before, generation, tuple(curve))


def sweep(space: Space, training: Field, validation: Field) -> Found:
    """A space of no number or one: its places on a line, the best on all training traces."""
    places = (0.0,) if space.size == 0 else tuple(float(place) for place in range(-3, 4))
    vectors = [space.at(np.full(space.size, place)) for place in places]
    before = training.decisions
    losses = np.zeros((len(vectors), 1))
    if len(vectors) > 1:
        losses = training.losses([space.brain(vector) for vector in vectors], range(len(training.traces)))
    best = vectors[int(losses.mean(axis=1).argmin())]
    loss = float(validation.losses([space.brain(best)], range(len(validation.traces))).mean())
    return Found(space.name, best, loss, training.decisions - before, 0, ((training.decisions - before, loss),))
