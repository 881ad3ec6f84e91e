"""What an operator counts, for Prometheus; and what becomes of passes, for the log."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from bes_operator.condition_metrics import ConditionMetrics
from bes_operator.errors import ClusterError, NotLeading
from bes_operator.manifest import Manifest
from bes_operator.queue import Depth

_log = logging.getLogger(__name__)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All of them, in a registry of their own. Is what a WorkQueue reports to."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # its start tells restarts, its memory leaks
        own: dict[str, Any] = {"registry": self._registry, "namespace": "bes_operator"}
        self._seconds = Histogram("reconcile_seconds", "Duration of a pass over one service", buckets=_SECONDS, **own)
        self._errors = Counter("reconcile_errors", "Passes that failed, by reason", ["reason"], **own)
        self._calls = Counter(
            "api_calls", "Requests to the API server; status 0: no answer", ["method", "status"], **own
        )
        self.watch_restarts = Counter("watch_restarts", "Times that the watch ended and was begun anew", **own)
        self.lists = Counter("lists", "Times that everything was listed anew, by outcome", ["outcome"], **own)
        self.polls = Counter("router_polls", "Questions to routers for their status, by outcome", ["outcome"], **own)
        self._depth = Gauge("queue_depth", "Services that are due and wait for a worker", **own)
        self._age = Gauge("queue_oldest_seconds", "How long the oldest of them has been due", **own)
        self._services = Gauge("services", "Services that this operator looks after", **own)
        self._leader = Gauge("leader", "1 while this operator holds the Lease", **own)
        self._trainings = Gauge("trainings_waiting", "Training Jobs that wait for their turn", **own)

    def watch(
        self,
        depth: Callable[[], Depth],
        leads: Callable[[], bool],
        services: Callable[[], int],
        trainings_waiting: Callable[[], int],
    ) -> None:
        """Gauges are read when they are asked for."""
        self._depth.set_function(lambda: depth().keys)
        self._age.set_function(lambda: depth().oldest_seconds)
        self._leader.set_function(lambda: float(leads()))
        self._services.set_function(services)
        self._trainings.set_function(trainings_waiting)

    def tell_conditions(self, stored: Callable[[], Iterable[Manifest]]) -> None:
        """Conditions of services as last seen, read when they are asked for."""
        self._registry.register(ConditionMetrics(stored))

    def called(self, method: str, status: int) -> None:
        """A request to the API server and what came of it."""
        self._calls.labels(method, str(status)).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def passed(self, seconds: float) -> None:
        """A pass that did what there was to do."""
        self._seconds.observe(seconds)

    def failed(self, key: object, error: Exception, seconds: float, again_in_seconds: float) -> None:
        """A pass that will be tried again."""
        self._seconds.observe(seconds)
        self._errors.labels(type(error).__name__).inc()
        expected = isinstance(error, ClusterError | NotLeading)
        _log.log(
            logging.WARNING if expected else logging.ERROR,
            "%s: %s; again in %.1f s",
            key,
            error,
            again_in_seconds,
            exc_info=None if expected else error,
        )
