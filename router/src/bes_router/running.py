"""A router at work: everything wired together, started, swept, brought up to date, drained and closed."""

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from bes_router import status
from bes_router.admin import Admin, TokenFile, View
from bes_router.decision_log import DecisionLog
from bes_router.decisions import DecisionRing
from bes_router.delivery import Delivered, Delivery, Refused
from bes_router.discovery.api import ApiServer
from bes_router.discovery.collector import DiscoveryCollector
from bes_router.errors import Reason, StartupError
from bes_router.generation import Generation, House
from bes_router.load.tally import LoadCollector
from bes_router.relay import Exchange
from bes_router.router import Router
from bes_router.server import ClientConnection

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
LOOK_SECONDS = 1.0
CONFIRM_SECONDS = 0.1
"""After so long a folder that was met while it changed is looked at again."""
LAST_ANSWERS_SECONDS = 0.05
JUST_NOW_SECONDS = 0.5
"""A client that connected or was answered so lately may be sending: closing would meet its request."""
BACKLOG = 1024
GC_THRESHOLD = 20_000  # a request leaves no cycles behind; the default 700 would look for them every few requests


class RunningRouter:
    """Built inside a running event loop; `start` binds the ports, `drain` ends it.

    ``delivery`` says later what to serve by instead of ``delivered``; without it that stays. ``server``: of the cluster
    that it runs in, if it does.
    """

    def __init__(
        self,
        delivered: Delivered,
        delivery: Delivery | None = None,
        token: TokenFile | None = None,
        decisions: DecisionLog | None = None,
        server: ApiServer | None = None,
    ) -> None:
        self.boot_id = secrets.token_hex(8)
        self.started_at = time.time()
        self.began = time.monotonic()
        self.delivered = delivered
        self.reloads = status.Reloads()
        self.ring = DecisionRing(self.boot_id[:8])
        self._house = House(self.ring, self._exchanges, lambda: self.router.serving, decisions, server)
        self.generation = Generation(delivered, self._house)
        config = delivered.config
        self.router = Router(self.generation.serving, config.limits, self.generation.metrics, started=self.started_at)
        self.generation.publish(self.router.connections)
        self._delivery = delivery
        self._decisions = decisions
        self._admin = Admin(self.registry(), lambda: self.ready, token or TokenFile(None), self._views())
        self._servers: list[asyncio.Server] = []
        self._admin_port = 0
        self._background: list[asyncio.Task[None]] = []

    def registry(self) -> CollectorRegistry:
        """What the metrics page shows, new each time."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Current(self))
        registry.register(DiscoveryCollector(lambda: self.generation.discovery))
        registry.register(LoadCollector(lambda: self.generation.load))
        registry.register(status.DeliveryCollector(self))
        ProcessCollector(registry=registry)
        return registry

    def _views(self) -> dict[str, View]:
        return {
            "/status": lambda: status.status_of(self),
            "/load": lambda: status.load_of(self),
            "/policy": lambda: status.policy_of(self),
            "/backends": lambda: status.backends_of(self),
            "/config": lambda: self.delivered.config,
            "/decisions/{id}": self.ring.explain,
        }

    @property
    def ready(self) -> bool:
        """Whether clients' requests are taken."""
        return bool(self._servers) and not self.router.draining

    async def start(self) -> None:
        """Probe the backends once, then listen. Raises StartupError where a port cannot be bound."""
        await self.generation.begin()
        self._background = [asyncio.create_task(self._sweep())]
        if self._delivery is not None:
            self._background.append(asyncio.create_task(self._follow(self._delivery)))
        listen, admin = self.delivered.config.listen, self.delivered.config.admin
        try:
            self._servers.append(
                await asyncio.get_running_loop().create_server(
                    lambda: ClientConnection(self.router), listen.host, listen.port, backlog=BACKLOG
                )
            )
        except OSError as error:
            raise StartupError(f"listen: {listen.host}:{listen.port} cannot be bound: {error}") from error
        try:
            self._admin_port = await self._admin.start(admin.host, admin.port)
        except OSError as error:
            raise StartupError(f"admin: {admin.host}:{admin.port} cannot be bound: {error}") from error
        gc.collect()
        gc.freeze()  # what lives until the end needs no looking at in every collection
        gc.set_threshold(GC_THRESHOLD)

    @property
    def ports(self) -> tuple[int, int]:
        """The ports that clients and admins use; they matter where 0 was asked for."""
        return self._servers[0].sockets[0].getsockname()[1], self._admin_port

    async def adopt(self, new: Delivered) -> None:
        """Serve by ``new`` from the next request on; what is in flight ends as it began. Never raises."""
        old = self.delivered
        await self._adopt(old, new)
        changed = (self.delivered.config, self.delivered.loaded) != (old.config, old.loaded)
        if changed and self._decisions is not None:
            self._decisions.begin(self.delivered.config.scenario, self.delivered.loaded.name)

    async def _adopt(self, old: Delivered, new: Delivered) -> None:
        if new.config is old.config:
            if new.loaded is not old.loaded or new.candidate is not old.candidate:
                self.generation.decide_by(new)
            self.reloads.applied += (new.loaded, new.candidate) != (old.loaded, old.candidate)
            self.reloads.refused += new.refused is not None and new.refused != old.refused
            self.delivered = new
            return
        try:
            await self._succeed(new)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the old one goes on
            log.error("the configuration is refused, the one before goes on: %s", error)
            self.reloads.refused += 1
            self.delivered = replace(old, refused=Refused(new.digest, str(error) or repr(error)))
            return
        self.reloads.applied += 1
        self.delivered = new
        gc.collect()  # what served before is full of cycles, and at that threshold nobody else would look for long
        log.info("configuration %s serves", new.digest)

    async def _succeed(self, new: Delivered) -> None:
        """Build beside, let it find its backends, then swap in one step."""
        before = self.generation
        after = Generation(new, self._house, before)
        try:
            await after.begin()
        except BaseException:
            await after.end()
            raise
        after.take_over(before)
        after.publish(self.router.connections)
        self.router.serve(after.serving, new.config.limits)
        self.generation = after
        await before.end()

    def _exchanges(self) -> Iterator[Exchange]:
        return (each.exchange for each in self.router.connections if each.exchange is not None)

    async def _follow(self, delivery: Delivery) -> None:
        """Look into the watched folders every second, in a thread."""
        while True:
            await asyncio.sleep(CONFIRM_SECONDS if delivery.changing else LOOK_SECONDS)
            try:
                new = await asyncio.to_thread(delivery.look, self.delivered)
                if new is not None:
                    await self.adopt(new)
            except Exception:  # the outermost loop: one bad look must not be the last
                log.exception("looking for a new configuration or policy failed")
                self.reloads.refused += 1

    async def drain(self) -> bool:
        """Say so, stop accepting, finish what runs, cut off what is left after the grace time. True if nothing was cut.

        Until whoever sends clients here has heard that the router leaves, it takes whom they send.
        """
        router = self.router
        router.draining = True
        await asyncio.sleep(router.limits.propagation_seconds)
        if self._servers:
            self._servers[0].close()
        seconds = router.limits.drain_timeout_seconds
        deadline = time.monotonic() + seconds
        while router.connections and (now := time.monotonic()) < deadline:
            for connection in list(router.connections):
                connection.close_idle(before=now - JUST_NOW_SECONDS)
            await asyncio.sleep(0.02)
        left = list(self._exchanges())
        for exchange in left:
            exchange.expire(Reason.DRAINING)
        await asyncio.sleep(LAST_ANSWERS_SECONDS)
        for connection in list(router.connections):
            connection.cut()
        if left:
            log.warning("%d requests were cut off after %g s", len(left), seconds)
        return not left

    async def close(self) -> None:
        """Close ports, connections and background work."""
        for server in self._servers:
            server.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._admin.close()
        await self.generation.end()
        self.generation.close()
        if self._decisions is not None:
            self._decisions.close()
        await asyncio.sleep(0)  # closed transports say so to their protocols in the next turn

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep_once(time.monotonic())

    def _sweep_once(self, now: float) -> None:  # apart, so that no name here keeps a connection that has ended
        for connection in list(self.router.connections):
            connection.sweep(now)
        self.generation.serving.sweep(now)
        self._admin.sweep(now)
        if self._decisions is not None:
            self._decisions.flush()


class _Current(Collector):
    """The metrics of whatever configuration serves when somebody scrapes."""

    def __init__(self, running: RunningRouter) -> None:
        self._running = running

    def collect(self) -> Iterator[Metric]:
        return iter(self._running.generation.metrics.collect())
