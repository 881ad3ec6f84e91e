"""What went wrong and was mended: requests sent again, backends kept out. Counted by name, over configurations."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from bes_router.ejection import Cause, Event, Phase


class Setbacks:
    """Counters for the admin port; see each metric's help."""

    def __init__(self) -> None:
        self.retries: Counter[tuple[str, str]] = Counter()
        """By reason of the attempt before, and by what became of the new one: answered, failed, late or client_gone."""
        self.ejections: Counter[tuple[str, Cause]] = Counter()
        """By backend (MODEL/REPLICA) and cause."""
        self.out: dict[str, Phase] = {}
        """Backends that are kept out or on trial just now."""

    def changed(self, event: Event) -> None:
        """Count a backend that was ejected, is tried out or has returned."""
        label = event.standing.label
        if event.phase is Phase.SERVING:
            self.out.pop(label, None)
            return
        self.out[label] = event.phase
        if event.phase is Phase.EJECTED and event.cause is not None:
            self.ejections[label, event.cause] += 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Render."""
        retries = CounterMetricFamily(
            "bes_router_retries",
            "requests sent to another backend, by why and by what became of that",
            labels=["reason", "outcome"],
        )
        for (reason, outcome), count in sorted(self.retries.items()):
            retries.add_metric([reason, outcome], count)
        yield retries
        ejections = CounterMetricFamily(
            "bes_router_ejections", "backends kept out for how they answered", labels=["model", "replica", "cause"]
        )
        for (label, cause), count in sorted(self.ejections.items()):
            ejections.add_metric([*label.rsplit("/", 1), cause], count)
        yield ejections
        out = GaugeMetricFamily(
            "bes_router_backend_out", "1 while a backend is kept out or on trial", labels=["model", "replica", "phase"]
        )
        for label, phase in sorted(self.out.items()):
            out.add_metric([*label.rsplit("/", 1), phase], 1.0)
        yield out
