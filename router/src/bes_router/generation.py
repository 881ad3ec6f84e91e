"""One configuration at work: what serves, and what runs beside it. The next one takes over what stays the same."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bes_router.backends import Backend
from bes_router.decider import Decider
from bes_router.decision_log import DecisionLog
from bes_router.decisions import DecisionRing
from bes_router.delivery import Delivered
from bes_router.discovery.api import ApiServer
from bes_router.discovery.found import Discovery, Found
from bes_router.discovery.source import discovery_of
from bes_router.health import Health
from bes_router.load.source import load_source, target_of
from bes_router.metrics import Gauges, Metrics
from bes_router.policy.tracker import LoadTracker
from bes_router.relay import Exchange
from bes_router.roster import Roster
from bes_router.serving import Serving
from bes_router.shadow import Shadow

FIRST_FOUND_SECONDS = 3.0
"""So long the first word of where engines are may take; who cannot say must not keep a router from starting."""
FIRST_PROBE_SECONDS = 0.3


@dataclass(frozen=True)
class House:
    """What every configuration of a router has in common.

    ``exchanges``: requests in flight at the moment; ``now_serves``: what decides requests at the moment. Nothing leads
    from a configuration to those after it but this, or one request that stays would keep all of them.
    """

    ring: DecisionRing
    exchanges: Callable[[], Iterable[Exchange]]
    now_serves: Callable[[], Serving]
    decisions: DecisionLog | None = None
    server: ApiServer | None = None


class Generation:
    """Built inside a running event loop. Raises BestEffortError where the configuration cannot be carried out."""

    serving: Serving
    metrics: Metrics

    def __init__(self, delivered: Delivered, house: House, before: "Generation | None" = None) -> None:
        config, catalogue = delivered.config, delivered.catalogue
        scenario = config.scenario
        models = [model.name for model in scenario.models]
        engines = [(model.name, str(i)) for model in scenario.models for i in range(model.max_replicas)]
        tracker = LoadTracker(catalogue, time.monotonic(), 1.0 if before is None else before.serving.tracker.share)
        self.config = config
        self.metrics = Metrics(
            [task.name for task in scenario.tasks], models, engines, None if before is None else before.metrics
        )
        self._roster = Roster(models, catalogue, tracker.set_ready)
        self._exchanges = house.exchanges
        self.discovery: Discovery = discovery_of(config, house.server, None if before is None else before.discovery)
        self.load = load_source(config, catalogue, tracker)
        decider = self._decider(delivered)
        self.serving = Serving(
            config,
            catalogue,
            tracker,
            self._roster,
            decider,
            self.metrics,
            house.ring,
            house.now_serves,
            house.decisions,
        )
        self.health = Health(self.backends)
        self._found = asyncio.Event()
        self._probing: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []

    @property
    def backends(self) -> list[Backend]:
        """Whoever is listed at the moment."""
        return self._roster.listed

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
        """Start what runs beside, and wait a moment for the first word of where backends are, and of themselves."""
        self._background = [
            asyncio.create_task(self.discovery.run(self.relist)),
            asyncio.create_task(self.health.run()),
            asyncio.create_task(self.load.run()),
        ]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._found.wait(), FIRST_FOUND_SECONDS)
        if self._probing:
            await asyncio.wait(self._probing, timeout=FIRST_PROBE_SECONDS)  # the rest of it goes on beside

    def relist(self, found: Found) -> None:
        """Serve by the engines that are found from now on; what is known of those that stay remains."""
        change = self._roster.take(found.listed)
        if change.came or change.left:
            self.serving.relisted(change, self._exchanges())
            self.load.relist([target_of(backend) for backend in self.backends])
        if change.came:
            probing = asyncio.create_task(self.health.probe(change.came))
            self._probing.add(probing)
            probing.add_done_callback(self._probing.discard)
        if found.current:
            self._found.set()

    def decide_by(self, delivered: Delivered) -> None:
        """Another policy or candidate for the same configuration, from the next request on."""
        self.serving.decide_with(self._decider(delivered))

    def _decider(self, delivered: Delivered) -> Decider:
        candidate = delivered.candidate
        shadow = None
        if candidate is not None and candidate.policy is not None:
            shadow = Shadow(candidate.policy, candidate.figures)
        return Decider(delivered.loaded, self.metrics, shadow)

    def take_over(self, before: "Generation") -> None:
        """Go on with the backends that stay: readiness, kept connections, and requests in flight, which end as begun.

        Backends that do not stay finish what they have and get nothing more.
        """
        now = time.monotonic()
        for old in before.backends:
            stays = next((new for new in self.backends if new.same_engine(old)), None)
            if stays is None:
                old.retire()
            else:
                old.hand_over(stays)
        labels = {backend.label for backend in self.backends}
        for gone in self.metrics.setbacks.out.keys() - labels:
            del self.metrics.setbacks.out[gone]
        mine = set(map(id, self.backends))
        for exchange in self._exchanges():
            backend = exchange.backend.latest
            counter = self.serving.tracker if id(backend) in mine else self.serving.departed
            exchange.lease.move(counter, backend.engine, now)
        before.serving.retire()
        ratios = dict(zip(before.serving.task_names, before.serving.ratios, strict=True))
        self.serving.ratios = [
            ratios.get(name, fresh) for name, fresh in zip(self.serving.task_names, self.serving.ratios, strict=True)
        ]

    async def end(self) -> None:
        """Stop what runs beside; requests in flight are left alone."""
        ending = [*self._background, *self._probing]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._background = []

    def close(self) -> None:
        """Close every kept connection."""
        for backend in self.backends:
            backend.retire()
