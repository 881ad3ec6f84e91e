"""The learned part of a candidate's score: linear plus one hidden layer, the same weights for every candidate.

``score = base + linear . x + out . softsign(hidden x + bias)``. All-zero linear and out weights reproduce the base rule
exactly. This plain form is what the simulator compiles; the router computes the same with numpy (`policies.py`).

Base rule, linear and out weights come twice: for a load that is known and for one that is guessed. A decision takes
what lies between them, by how much of its view is guessed (`LoadView.guessed`).
"""

from bes_router.policy.candidates import WIDTH
from bes_router.policy.layout import Floats, MutableFloats


def add_learned(
    features: Floats,
    count: int,
    linear: Floats,
    hidden: Floats,
    bias: Floats,
    out: Floats,
    scores: MutableFloats,
    units: MutableFloats,
) -> None:
    """Add the learned part to the first ``count`` scores.

    ``hidden`` is [WIDTH * H], a feature's weights to all units side by side, so that the inner loop is one vector
    operation; ``bias`` and ``out`` are [H], ``units`` is scratch [H].
    """
    size = len(out)
    for row in range(count):
        at = row * WIDTH
        total = 0.0
        for unit in range(size):
            units[unit] = bias[unit]
        for column in range(WIDTH):
            value = features[at + column]
            total += linear[column] * value
            weights = column * size
            for unit in range(size):
                units[unit] += hidden[weights + unit] * value
        for unit in range(size):
            total += out[unit] * units[unit] / (1.0 + abs(units[unit]))
        scores[row] += total


def mix(ends: Floats, guessed: float, mixed: MutableFloats) -> None:
    """Write what lies between the first half of ``ends`` (load known) and the second (load guessed)."""
    size = len(mixed)
    for index in range(size):
        mixed[index] = ends[index] + guessed * (ends[size + index] - ends[index])


def best_of(scores: Floats, count: int) -> int:
    """Index of the highest score; the first one on a tie."""
    best = 0
    for row in range(1, count):
        if scores[row] > scores[best]:
            best = row
    return best
