"""What became of every request, and what it earned: one entry in one of a task's five counts, whichever way it ends."""

from bes_router.errors import Reason, RefusedRequestError
from bes_router.metrics import Metrics
from bes_router.policy.layout import Catalogue, RoutingRequest
from bes_router.policy.reward import reward_share
from bes_router.relay import Exchange

CLIENTS_FAULT = frozenset({400, 401, 403, 404, 405, 413, 415, 422})


class Account:
    """Writes a configuration's outcomes into ``metrics``."""

    def __init__(self, catalogue: Catalogue, metrics: Metrics) -> None:
        self._catalogue = catalogue
        self._metrics = metrics

    def refused(self, routing: RoutingRequest, error: RefusedRequestError) -> None:
        """The router itself said no; a client's own fault counts nowhere but as such."""
        if error.status in CLIENTS_FAULT:
            self._metrics.tasks[routing.task].client_faults += 1
        else:
            self._lost(routing)

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Note the time to the first token of a stream."""
        if exchange.status == 200:
            self._metrics.tasks[exchange.routing.task].first_token.observe(now - exchange.arrival)

    def ended(self, exchange: Exchange, now: float) -> None:
        """An engine's answer is whole, whatever its status."""
        routing, status = exchange.routing, exchange.status
        if status != 200:
            if status in CLIENTS_FAULT:
                self._metrics.errors[Reason.ENGINE_REFUSED] += 1
                self._metrics.tasks[routing.task].client_faults += 1
                self._retried(exchange, "answered")
            else:
                self.failed(exchange, Reason.ENGINE_FAILED)
            return
        catalogue, task = self._catalogue, routing.task
        figures = self._metrics.tasks[task]
        figures.completion.observe(now - exchange.arrival)
        answered = exchange.first_byte_at or now if catalogue.first_token[task] else now
        share = reward_share(answered, routing.full_until, routing.zero_from)
        figures.peak_reward += catalogue.best_quality[task] if routing.pinned < 0 else self._peak(routing)
        if share > 0.0:
            figures.in_time += 1
            figures.reward += share * catalogue.quality[task * len(catalogue.context) + exchange.backend.model]
        else:
            figures.late += 1
        if exchange.retried_for:
            self._retried(exchange, "answered")

    def missed(self, exchange: Exchange) -> None:
        """The deadline passed and the request was aborted: late, as the simulator counts it."""
        figures = self._metrics.tasks[exchange.routing.task]
        figures.late += 1
        figures.peak_reward += self._peak(exchange.routing)
        self._metrics.errors[Reason.DEADLINE] += 1
        self._retried(exchange, "late")

    def failed(self, exchange: Exchange, reason: Reason) -> None:
        """There is no whole answer."""
        self._metrics.errors[reason] += 1
        if reason is Reason.CLIENT_GONE:
            self._metrics.tasks[exchange.routing.task].client_gone += 1
            self._retried(exchange, "client_gone")
        else:
            self._lost(exchange.routing)
            self._retried(exchange, "failed")

    def attempt_failed(self, exchange: Exchange) -> None:
        """One of several attempts gave nothing; the request goes on or fails for its own account."""
        self._retried(exchange, "failed")

    def _retried(self, exchange: Exchange, outcome: str) -> None:
        if exchange.retried_for:
            self._metrics.setbacks.retries[exchange.retried_for, outcome] += 1
            exchange.retried_for = ""

    def _lost(self, routing: RoutingRequest) -> None:
        figures = self._metrics.tasks[routing.task]
        figures.failed += 1
        figures.peak_reward += self._peak(routing)

    def _peak(self, routing: RoutingRequest) -> float:
        """The most that a request can earn."""
        if routing.pinned < 0:
            return self._catalogue.best_quality[routing.task]
        return self._catalogue.quality[routing.task * len(self._catalogue.context) + routing.pinned]
