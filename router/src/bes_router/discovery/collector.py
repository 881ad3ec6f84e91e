"""How discovery goes, for the metrics page."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bes_router.discovery.found import Discovery


class DiscoveryCollector(Collector):
    """The metrics of whatever discovery ``current`` returns when somebody scrapes."""

    def __init__(self, current: Callable[[], Discovery]) -> None:
        self._current = current

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Render, called by the registry."""
        report = self._current().report
        info = GaugeMetricFamily("bes_router_discovery_info", "where engines are found", labels=["source"])
        info.add_metric([self._current().name], 1.0)
        yield info
        yield GaugeMetricFamily(
            "bes_router_discovery_current",
            "0 while engines are those last known, as their source cannot be heard",
            value=float(not report.problem),
        )
        age = GaugeMetricFamily("bes_router_discovery_age_seconds", "since the source was last heard", labels=[])
        if report.heard_at is not None:  # unknown is absent, not 0
            age.add_metric([], time.monotonic() - report.heard_at)
        yield age
        yield CounterMetricFamily("bes_router_discovery_lists", "times that all engines were listed", report.lists)
        yield CounterMetricFamily(
            "bes_router_discovery_failures", "questions to the source without a usable answer", report.failures
        )
        yield GaugeMetricFamily(
            "bes_router_discovery_waiting", "pods beyond the replicas of their model's range", value=report.waiting
        )
