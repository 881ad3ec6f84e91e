"""The policies as objects that router and replay call: thin wrappers over the plain functions, numpy for the nets.

Everything is preallocated; one object serves one catalogue and one thread.
"""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bes_router.policy import candidates
from bes_router.policy import placement as place
from bes_router.policy.artifact import Artifact
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.paper import observe_paper, width_of
from bes_router.policy.reward import eligible
from bes_router.policy.rules import GATE, choose_by_rule, place_by, rule_score

NOWHERE = Decision(-1, -1)


class RulePolicy:
    """A hand-written rule with a placement."""

    def __init__(self, name: str, catalogue: Catalogue, kind: int, placement: int, parameters: Sequence[float]) -> None:
        self.name = name
        self._catalogue = catalogue
        self._kind = kind
        self._placement = placement
        self._parameters = list(parameters)

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """See `contract.Policy`."""
        return choose_by_rule(self._catalogue, view, request, now, self._kind, self._placement, self._parameters)

    def weigh(self, request: RoutingRequest, view: LoadView, now: float) -> list[tuple[int, float]]:
        """See `contract.Weighing`."""
        catalogue, parameters = self._catalogue, self._parameters
        engines = [
            place_by(catalogue, view, request, now, self._placement, parameters[GATE], model)
            for model in range(len(catalogue.context))
            if eligible(catalogue, view, request, model)
        ]
        return [
            (engine, rule_score(catalogue, view, request, now, engine, self._kind, parameters)) for engine in engines
        ]


class LearnedPolicy:
    """The shared scorer over candidates: base rule, linear part and one hidden layer, argmax."""

    def __init__(self, catalogue: Catalogue, artifact: Artifact) -> None:
        self.name = "Learned"
        self._catalogue = catalogue
        rows = candidates.capacity(catalogue)
        self._engines = [0] * rows
        self._scores = array("d", bytes(8 * rows))
        self._base_scores = np.frombuffer(self._scores, dtype=np.float64)
        self._features = array("d", bytes(8 * rows * candidates.WIDTH))
        self._matrix = np.frombuffer(self._features, dtype=np.float64).reshape(rows, candidates.WIDTH)
        weights = artifact.tensors
        passport = artifact.passport
        base = np.array([passport.base_parameters, passport.guessed_base_parameters])
        self._known, guessed = np.concatenate([base, weights["linear"], weights["out"]], axis=1)
        self._change = guessed - self._known
        self._mixed = self._known.copy()  # as `scorer.mix`, in one go
        ends = np.cumsum([candidates.BASE_PARAMETERS, candidates.WIDTH])
        self._base_mixed, self._linear, self._out = np.split(self._mixed, ends)
        self._base: list[float] = self._base_mixed.tolist()
        self._guessed = 0.0
        self._hidden, self._bias = np.ascontiguousarray(weights["hidden"].T), weights["bias"]
        units = len(self._out)
        self._z = np.empty((rows, units))
        self._abs = np.empty((rows, units))

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """See `contract.Policy`."""
        count = self._observe(request, view, now)
        if count == 0:
            return NOWHERE
        scores = self.scores(count)
        engine = self._engines[int(scores.argmax())]
        return Decision(self._catalogue.engine_model[engine], engine)

    def weigh(self, request: RoutingRequest, view: LoadView, now: float) -> list[tuple[int, float]]:
        """See `contract.Weighing`."""
        count = self._observe(request, view, now)
        best: dict[int, tuple[int, float]] = {}
        for engine, score in zip(self._engines[:count], self.scores(count).tolist(), strict=True):
            model = self._catalogue.engine_model[engine]
            if model not in best or score > best[model][1]:
                best[model] = (engine, score)
        return list(best.values())

    def _observe(self, request: RoutingRequest, view: LoadView, now: float) -> int:
        if view.guessed != self._guessed:
            self._mix(view.guessed)
        return candidates.observe(
            self._catalogue, view, request, now, self._base, 1, self._engines, self._scores, self._features
        )

    def _mix(self, guessed: float) -> None:
        self._guessed = guessed
        np.multiply(self._change, guessed, out=self._mixed)
        self._mixed += self._known
        self._base = self._base_mixed.tolist()

    def scores(self, count: int) -> NDArray[np.float64]:
        """Scores of the ``count`` candidates last observed."""
        x = self._matrix[:count]
        z, scale = self._z[:count], self._abs[:count]
        np.dot(x, self._hidden, out=z)
        z += self._bias
        np.abs(z, out=scale)
        scale += 1.0
        z /= scale
        total: NDArray[np.float64] = z.dot(self._out)
        total += x.dot(self._linear)
        total += self._base_scores[:count]
        return total


class PaperPolicy:
    """The paper's network: a value per model, the eligible model of the highest value on its least loaded engine."""

    def __init__(self, catalogue: Catalogue, artifact: Artifact) -> None:
        self.name = "Paper"
        self._catalogue = catalogue
        self._inputs = array("d", bytes(8 * width_of(catalogue)))
        self._vector = np.frombuffer(self._inputs, dtype=np.float64)
        weights = artifact.tensors
        self._layers = [
            (np.ascontiguousarray(weights[f"weight{layer}"]), weights[f"bias{layer}"]) for layer in (1, 2, 3)
        ]

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:  # noqa: ARG002 - the seam's signature
        """See `contract.Policy`."""
        catalogue = self._catalogue
        allowed = [model for model in range(len(catalogue.context)) if eligible(catalogue, view, request, model)]
        if not allowed:
            return NOWHERE
        observe_paper(catalogue, view, request, self._inputs)
        values = self.values()
        model = max(allowed, key=values.__getitem__)
        return Decision(model, place.least_loaded(catalogue, view, model))

    def weigh(self, request: RoutingRequest, view: LoadView, now: float) -> list[tuple[int, float]]:  # noqa: ARG002
        """See `contract.Weighing`."""
        catalogue = self._catalogue
        allowed = [model for model in range(len(catalogue.context)) if eligible(catalogue, view, request, model)]
        observe_paper(catalogue, view, request, self._inputs)
        values = self.values()
        return [(place.least_loaded(catalogue, view, model), values[model]) for model in allowed]

    def values(self) -> list[float]:
        """The network's value of every model for the observation last made."""
        (first, bias1), (second, bias2), (third, bias3) = self._layers
        hidden = first @ self._vector
        hidden += bias1
        np.maximum(hidden, 0.0, out=hidden)
        hidden = second @ hidden
        hidden += bias2
        np.maximum(hidden, 0.0, out=hidden)
        result: list[float] = (third @ hidden + bias3).tolist()
        return result
