"""The router's figures: plain counters on the data path, rendered by prometheus_client only when somebody scrapes."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from bes_router.errors import Reason
from bes_router.setbacks import Setbacks

LATENCY_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
DISPATCH_BOUNDS = (1e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)


class Histogram:
    """Counts of observations up to each bound, and their sum, in seconds."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as the exposition format wants them."""
        cumulative, found = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            cumulative += count
            found.append((bound, float(cumulative)))
        return found


class TaskFigures:
    """What one task got so far. Every request of it is in exactly one of the five counts."""

    __slots__ = (
        "client_faults",
        "client_gone",
        "completion",
        "failed",
        "first_token",
        "in_time",
        "late",
        "peak_reward",
        "reward",
    )

    def __init__(self) -> None:
        self.in_time = 0
        self.late = 0
        self.failed = 0
        self.client_gone = 0
        self.client_faults = 0
        self.reward = 0.0
        self.peak_reward = 0.0
        self.first_token = Histogram(LATENCY_BOUNDS)
        self.completion = Histogram(LATENCY_BOUNDS)


@dataclass(frozen=True)
class Gauges:
    """What is read at the moment of a scrape."""

    in_flight: Callable[[], Sequence[float]]
    """This router's requests in flight per engine."""
    ready: Callable[[], Sequence[bool]]
    figures_age_seconds: Callable[[], float | None]
    figures_known: Callable[[], Sequence[bool]]
    connections: Callable[[], int]


class Metrics(Collector):
    """Everything that is counted under one configuration; ``before`` is the one whose counters go on, by name."""

    def __init__(
        self,
        tasks: Sequence[str],
        models: Sequence[str],
        backends: Sequence[tuple[str, str]],
        before: "Metrics | None" = None,
    ) -> None:
        self.tasks = [TaskFigures() for _ in tasks]
        self.decisions = [[0] * len(models) for _ in tasks]
        self.errors = dict.fromkeys(Reason, 0)
        self.dispatch = Histogram(DISPATCH_BOUNDS)
        self.policy = ""
        self.fallback = False
        self.policy_failures = 0
        self.setbacks = Setbacks()
        self._task_names = tuple(tasks)
        self._model_names = tuple(models)
        self._backends = tuple(backends)
        self._gauges: Gauges | None = None
        if before is not None:
            self._go_on(before)

    @property
    def task_names(self) -> Sequence[str]:
        """In the order of ``tasks``."""
        return self._task_names

    @property
    def model_names(self) -> Sequence[str]:
        """In the order of ``decisions[task]``."""
        return self._model_names

    def publish(self, gauges: Gauges) -> None:
        """Say where to read what is true at the moment of a scrape."""
        self._gauges = gauges

    def _go_on(self, before: "Metrics") -> None:
        """Share what answers under way may still count into; copy what only decisions count."""
        self.errors, self.dispatch, self.policy_failures = before.errors, before.dispatch, before.policy_failures
        self.setbacks = before.setbacks
        for new, name in enumerate(self._task_names):
            if name in before._task_names:
                old = before._task_names.index(name)
                self.tasks[new] = before.tasks[old]
                counts = dict(zip(before._model_names, before.decisions[old], strict=True))
                self.decisions[new] = [counts.get(model, 0) for model in self._model_names]

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Render, called by the registry."""
        yield self._requests()
        yield self._errors()
        yield self._decisions()
        yield self._counter(
            "bes_router_in_time", "requests answered before their reward fell to 0", lambda task: task.in_time
        )
        yield self._counter("bes_router_reward", "quality delivered in time, summed", lambda task: task.reward)
        yield self._counter(
            "bes_router_peak_reward", "the most that the same requests could earn", lambda task: task.peak_reward
        )
        yield self._histogram(
            "bes_router_time_to_first_token_seconds",
            "from the request's last byte to the first byte of a streamed answer's body",
            lambda task: task.first_token,
        )
        yield self._histogram(
            "bes_router_request_seconds",
            "from the request's last byte to the last byte of the engine's answer",
            lambda task: task.completion,
        )
        dispatch = HistogramMetricFamily(
            "bes_router_dispatch_seconds", "from the request's last byte to its sending: the router's own added time"
        )
        dispatch.add_metric([], self.dispatch.buckets(), self.dispatch.total)
        yield dispatch
        yield from self.setbacks.collect()
        yield from self._policy()
        if self._gauges is not None:
            yield from self._now(self._gauges)

    def _requests(self) -> CounterMetricFamily:
        family = CounterMetricFamily("bes_router_requests", "requests by outcome", labels=["task", "outcome"])
        for label, task in zip(self._task_names, self.tasks, strict=True):
            for outcome, count in (
                ("in_time", task.in_time),
                ("late", task.late),
                ("failed", task.failed),
                ("client_gone", task.client_gone),
                ("client_fault", task.client_faults),
            ):
                family.add_metric([label, outcome], count)
        return family

    def _errors(self) -> CounterMetricFamily:
        family = CounterMetricFamily("bes_router_errors", "requests not answered as asked", labels=["reason"])
        for reason, count in self.errors.items():
            family.add_metric([reason], count)
        return family

    def _decisions(self) -> CounterMetricFamily:
        family = CounterMetricFamily("bes_router_decisions", "requests sent to a model", labels=["task", "model"])
        for label, counts in zip(self._task_names, self.decisions, strict=True):
            for model, count in zip(self._model_names, counts, strict=True):
                family.add_metric([label, model], count)
        return family

    def _counter(self, name: str, text: str, read: Callable[[TaskFigures], float]) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=["task"])
        for label, task in zip(self._task_names, self.tasks, strict=True):
            family.add_metric([label], read(task))
        return family

    def _histogram(self, name: str, text: str, read: Callable[[TaskFigures], Histogram]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=["task"])
        for label, task in zip(self._task_names, self.tasks, strict=True):
            family.add_metric([label], read(task).buckets(), read(task).total)
        return family

    def _policy(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        info = GaugeMetricFamily("bes_router_policy_info", "the policy that decides", labels=["policy"])
        info.add_metric([self.policy], 1)
        yield info
        yield GaugeMetricFamily(
            "bes_router_policy_is_fallback", "1 while the stated fallback rule decides", value=float(self.fallback)
        )
        yield CounterMetricFamily(
            "bes_router_policy_failures", "decisions that the fallback rule had to take over", self.policy_failures
        )

    def _now(self, gauges: Gauges) -> Iterator[GaugeMetricFamily]:
        per_backend = ["model", "replica"]
        in_flight = GaugeMetricFamily("bes_router_in_flight", "own requests in flight", labels=per_backend)
        ready = GaugeMetricFamily("bes_router_backend_ready", "1 if it may be chosen", labels=per_backend)
        known = GaugeMetricFamily("bes_router_load_figures_known", "1 if its load figure is known", labels=per_backend)
        for family, values in (
            (in_flight, gauges.in_flight()),
            (ready, gauges.ready()),
            (known, gauges.figures_known()),
        ):
            for labels, value in zip(self._backends, values, strict=True):
                family.add_metric(labels, float(value))
            yield family
        age = GaugeMetricFamily("bes_router_load_figures_age_seconds", "age of the newest load figures", labels=[])
        seconds = gauges.figures_age_seconds()
        if seconds is not None:  # unknown is absent, not 0
            age.add_metric([], seconds)
        yield age
        yield GaugeMetricFamily("bes_router_client_connections", "open", value=float(gauges.connections()))
