"""A candidate in shadow: decides a sample of requests beside the policy that routes, and never routes itself."""

import time
from dataclasses import dataclass, field

from bes_router.policy.contract import Policy
from bes_router.policy.layout import Decision, LoadView, RoutingRequest

EVERY = 16
"""One decision of so many is decided twice."""
SLOW_SECONDS = 1e-3
"""A decision that takes longer is counted as slow; the policies of this router take a tenth of it."""


@dataclass
class ShadowFigures:
    """What a candidate did so far."""

    decisions: int = 0
    same_model: int = 0
    same_engine: int = 0
    failures: int = 0
    """Decisions that raised, or that could not have been carried out."""
    slow: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    last_failure: str = field(default="", repr=False)


class Shadow:
    """One candidate, for the catalogue that serves; ``figures`` outlive a change of the catalogue."""

    __slots__ = ("_policy", "_until", "figures")

    def __init__(self, policy: Policy, figures: ShadowFigures) -> None:
        self._policy = policy
        self._until = EVERY
        self.figures = figures

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self._policy.name

    def decided(self, request: RoutingRequest, view: LoadView, now: float, decision: Decision) -> None:
        """Hear of a decision; decide every 16th again."""
        self._until -= 1
        if self._until == 0:
            self._until = EVERY
            self._decide(request, view, now, decision)

    def _decide(self, request: RoutingRequest, view: LoadView, now: float, decision: Decision) -> None:
        figures = self.figures
        figures.decisions += 1
        began = time.perf_counter()
        try:
            own = self._policy.choose(request, view, now)
            # whoever routes says whether any engine was eligible
            sound = decision.engine < 0 if own.engine < 0 else view.ready[own.engine]
            failure = "" if sound else f"it chose engine {own.engine}"
        except Exception as error:  # noqa: BLE001 - the seam to trained code: a candidate that fails must cost nothing
            own, failure = Decision(-1, -1), repr(error)
        seconds = time.perf_counter() - began
        figures.seconds += seconds
        figures.slowest_seconds = max(figures.slowest_seconds, seconds)
        figures.slow += seconds > SLOW_SECONDS
        if failure:
            figures.failures += 1
            figures.last_failure = failure
        else:
            figures.same_model += own.model == decision.model
            figures.same_engine += own.engine == decision.engine
