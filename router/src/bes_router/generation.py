"""One configuration at work: what serves, and what runs beside it. The next one takes over what stays the same."""

import asyncio
import time
from collections.abc import Iterable

from bes_router.backends import Backend
from bes_router.decider import Decider
from bes_router.decision_log import DecisionLog
from bes_router.decisions import DecisionRing
from bes_router.delivery import Delivered
from bes_router.health import Health
from bes_router.load.source import load_source
from bes_router.metrics import Gauges, Metrics
from bes_router.policy.tracker import LoadTracker
from bes_router.relay import Exchange
from bes_router.serving import Serving
from bes_router.shadow import Shadow

FIRST_PROBE_SECONDS = 0.3


class Generation:
    """Built inside a running event loop. Raises BestEffortError where the configuration cannot be carried out."""

    serving: Serving
    metrics: Metrics

    def __init__(
        self,
        delivered: Delivered,
        ring: DecisionRing,
        decisions: DecisionLog | None,
        before: "Generation | None" = None,
    ) -> None:
        config, catalogue = delivered.config, delivered.catalogue
        scenario = config.scenario
        engines = [(model.name, str(i)) for model in scenario.models for i in range(model.max_replicas)]
        tracker = LoadTracker(catalogue, time.monotonic(), 1.0 if before is None else before.serving.tracker.share)
        self.config = config
        self.metrics = Metrics(
            [task.name for task in scenario.tasks],
            [model.name for model in scenario.models],
            engines,
            None if before is None else before.metrics,
        )
        self.load = load_source(config, catalogue, tracker)
        self.serving = Serving(config, catalogue, tracker, self._decider(delivered), self.metrics, ring, decisions)
        self.backends: list[Backend] = [backend for backend in self.serving.backends if backend is not None]
        self.health = Health(self.backends)
        self._background: list[asyncio.Task[None]] = []

    def publish(self, connections: Iterable[object] | None = None) -> None:
        """Say in the metrics how things stand; ``connections`` are the clients'."""
        serving, load = self.serving, self.load
        self.metrics.publish(
            Gauges(
                in_flight=lambda: list(serving.tracker.own),
                ready=lambda: [backend is not None and backend.ready for backend in serving.backends],
                figures_age_seconds=self.figures_age,
                figures_known=lambda: load.board.known(time.monotonic()),
                connections=lambda: len(list(connections or ())),
            )
        )

    def figures_age(self) -> float | None:
        """Seconds since the newest load figure was true; None: there was none."""
        newest = self.load.board.newest_at
        return None if newest is None else time.monotonic() - newest

    async def begin(self) -> None:
        """Start what runs beside, and wait a moment for the first word of the backends."""
        first = asyncio.create_task(self.health.probe())
        self._background = [
            first,
            asyncio.create_task(self.health.run()),
            asyncio.create_task(self.load.run()),
        ]
        await asyncio.wait([first], timeout=FIRST_PROBE_SECONDS)  # the rest of it goes on beside

    def decide_by(self, delivered: Delivered) -> None:
        """Another policy or candidate for the same configuration, from the next request on."""
        self.serving.decide_with(self._decider(delivered))

    def _decider(self, delivered: Delivered) -> Decider:
        candidate = delivered.candidate
        shadow = None
        if candidate is not None and candidate.policy is not None:
            shadow = Shadow(candidate.policy, candidate.figures)
        return Decider(delivered.loaded, self.metrics, shadow)

    def take_over(self, before: "Generation", exchanges: Iterable[Exchange]) -> None:
        """Go on with the backends that stay: readiness, kept connections, and requests in flight, which end as begun.

        Backends that do not stay finish what they have and get nothing more.
        """
        now = time.monotonic()
        for old in before.backends:
            stays = next((new for new in self.backends if new.same_engine(old)), None)
            if stays is None:
                old.mark(False)
            else:
                old.hand_over(stays)
        labels = {backend.label for backend in self.backends}
        for gone in self.metrics.setbacks.out.keys() - labels:
            del self.metrics.setbacks.out[gone]
        mine = set(map(id, self.backends))
        for exchange in exchanges:
            backend = exchange.backend.latest
            if id(backend) in mine:
                exchange.lease.move(self.serving.tracker, backend.engine, now)
        ratios = dict(zip(before.serving.task_names, before.serving.ratios, strict=True))
        self.serving.ratios = [
            ratios.get(name, fresh) for name, fresh in zip(self.serving.task_names, self.serving.ratios, strict=True)
        ]

    async def end(self) -> None:
        """Stop what runs beside; requests in flight are left alone."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background = []

    def close(self) -> None:
        """Close every kept connection."""
        for backend in self.backends:
            backend.mark(False)
