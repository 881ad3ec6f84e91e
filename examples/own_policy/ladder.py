"""A policy of one's own: the best model that is not crowded and can still be in time, else what is done soonest."""

from bes_api.scenario import Scenario
from bes_router.policy.formula import predicted_finish
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.placement import least_loaded
from bes_router.policy.reward import eligible

CROWDED = 12.0
"""Requests in flight at an engine from which on it is passed over."""


class Ladder:
    """See the module. One object serves one service; it never waits and never raises."""

    name = "Ladder"

    def __init__(self, scenario: Scenario, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._models = range(len(scenario.models))

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """Only eligible models may be chosen: a ready backend, a stated quality, room in the context, the pin."""
        catalogue = self._catalogue
        best, soonest = Decision(-1, -1), Decision(-1, -1)  # engine -1: no model is eligible
        quality, shortest = -1.0, float("inf")
        for model in self._models:
            if not eligible(catalogue, view, request, model):
                continue
            engine = least_loaded(catalogue, view, model)
            load = view.load[engine]
            stated = catalogue.quality[request.task * len(self._models) + model]
            finish = predicted_finish(catalogue, model, load, request.prompt_tokens, request.output_tokens)
            if load < CROWDED and now + finish < request.zero_from and stated > quality:
                best, quality = Decision(model, engine), stated
            if finish < shortest:
                soonest, shortest = Decision(model, engine), finish
        return best if best.engine >= 0 else soonest
