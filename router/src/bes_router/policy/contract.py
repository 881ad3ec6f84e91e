"""The one-method seam between whoever holds a request and whoever decides about it."""

from typing import Protocol, runtime_checkable

from bes_router.policy.layout import Decision, LoadView, RoutingRequest


class Policy(Protocol):
    """A policy for one catalogue. Never waits, never raises for a request, never chooses an ineligible model."""

    @property
    def name(self) -> str:
        """The policy's name as metrics and headers say it."""
        ...

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """Pick a model and an engine at instant ``now``; ``Decision.engine`` is -1 where no model is eligible."""
        ...


@runtime_checkable
class Weighing(Protocol):
    """A policy that says what it thinks of every model; asked only when somebody wants a decision explained."""

    def weigh(self, request: RoutingRequest, view: LoadView, now: float) -> list[tuple[int, float]]:
        """For every eligible model the engine that it would take and that one's score; the highest score wins."""
        ...
