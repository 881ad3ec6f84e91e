"""Conditions of services as a metric, so that an alert can say which service is stalled and since when it is."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bes_api.service_status import read_status
from bes_operator.manifest import Manifest


class ConditionMetrics(Collector):
    """One series for each condition of each service: its status is a label, its value 1."""

    def __init__(self, stored: Callable[[], Iterable[Manifest]]) -> None:
        """``stored``: the services as last seen, asked at each scrape."""
        self._stored = stored

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names without asking for services."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the conditions that the operator itself has written."""
        family = self._family()
        for service in self._stored():
            metadata = service["metadata"]
            for condition in read_status(service).conditions:
                place = [metadata["namespace"], metadata["name"]]
                family.add_metric([*place, condition.type, condition.status, condition.reason], 1)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "bes_operator_condition",
            "Conditions of services; the value is always 1",
            labels=["service_namespace", "service", "condition", "status", "reason"],
        )
