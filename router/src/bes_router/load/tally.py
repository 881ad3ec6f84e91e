"""How often figures were asked for, how often in vain and how long it took: counted for the metrics page."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from bes_router.metrics import Histogram

if TYPE_CHECKING:
    from bes_router.load.source import Source

SECONDS_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass
class Tally:
    """Questions to engines or to Prometheus so far."""

    errors: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BOUNDS))
    problem: str = ""
    """Why the newest question found less than it should; empty: it did not."""


class LoadCollector(Collector):
    """The metrics of whatever source ``current`` returns when somebody scrapes."""

    def __init__(self, current: "Callable[[], Source]") -> None:
        self._current = current

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Render, called by the registry."""
        source = self._current()
        info = GaugeMetricFamily("bes_router_load_source_info", "where load figures come from", labels=["source"])
        info.add_metric([source.name], 1.0)
        yield info
        yield GaugeMetricFamily(
            "bes_router_load_figures_coverage",
            "share of backends whose load figure is known",
            value=source.board.coverage(time.monotonic()),
        )
        yield CounterMetricFamily(
            "bes_router_load_query_errors", "questions for load figures without a usable answer", source.tally.errors
        )
        seconds = HistogramMetricFamily("bes_router_load_query_seconds", "time that one question for figures took")
        seconds.add_metric([], source.tally.seconds.buckets(), source.tally.seconds.total)
        yield seconds
