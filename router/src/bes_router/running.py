"""A router at work: everything wired together, started, swept, drained and closed."""

import asyncio
import gc
import logging
import time
from collections.abc import Sequence

from bes_api.router_config import RouterConfig
from bes_router.admin import Admin
from bes_router.backends import IDLE_SECONDS, Backend
from bes_router.decider import Decider, Loaded
from bes_router.decision_log import DecisionLog
from bes_router.errors import Reason, StartupError
from bes_router.health import Health
from bes_router.load.source import load_source
from bes_router.load.tally import LoadCollector
from bes_router.metrics import Gauges, Metrics
from bes_router.policy.layout import Catalogue
from bes_router.policy.tracker import LoadTracker
from bes_router.router import Router
from bes_router.server import ClientConnection
from bes_router.serving import Serving

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
FIRST_PROBE_SECONDS = 0.3
LAST_ANSWERS_SECONDS = 0.05
BACKLOG = 1024
GC_THRESHOLD = 20_000  # a request leaves no cycles behind; the default 700 would look for them every few requests


class RunningRouter:
    """Built inside a running event loop; `start` binds the ports, `drain` ends it."""

    def __init__(
        self, config: RouterConfig, catalogue: Catalogue, loaded: Loaded, decisions: DecisionLog | None = None
    ) -> None:
        now = time.monotonic()
        scenario = config.scenario
        engines = [(model.name, str(i)) for model in scenario.models for i in range(model.max_replicas)]
        tracker = LoadTracker(catalogue, now)
        metrics = Metrics([task.name for task in scenario.tasks], [model.name for model in scenario.models], engines)
        serving = Serving(config, catalogue, tracker, Decider(loaded, metrics), metrics, decisions)
        self.router = Router(serving, config.limits, metrics, started=time.time())
        self._config = config
        self._decisions = decisions
        self._listed: Sequence[Backend] = [backend for backend in serving.backends if backend is not None]
        self._health = Health(self._listed)
        self._load = load_source(config, catalogue, tracker)
        self._admin = Admin(metrics.registry, self._is_ready)
        self._servers: list[asyncio.Server] = []
        self._background: list[asyncio.Task[None]] = []
        metrics.publish(
            Gauges(
                in_flight=lambda: [tracker.own[engine] for engine in range(len(engines))],
                ready=lambda: [backend is not None and backend.ready for backend in serving.backends],
                figures_age_seconds=self._figures_age,
                figures_known=lambda: self._load.board.known(time.monotonic()),
                connections=lambda: len(self.router.connections),
            )
        )
        metrics.registry.register(LoadCollector(lambda: self._load))

    async def start(self) -> None:
        """Probe the backends once, then listen. Raises StartupError where a port cannot be bound."""
        self._background = [asyncio.create_task(self._health.run())]
        first = asyncio.create_task(self._health.probe())
        await asyncio.wait([first], timeout=FIRST_PROBE_SECONDS)  # the rest of it goes on beside
        self._background += [first, asyncio.create_task(self._load.run()), asyncio.create_task(self._sweep())]
        listen, admin = self._config.listen, self._config.admin
        try:
            self._servers.append(
                await asyncio.get_running_loop().create_server(
                    lambda: ClientConnection(self.router), listen.host, listen.port, backlog=BACKLOG
                )
            )
        except OSError as error:
            raise StartupError(f"listen: {listen.host}:{listen.port} cannot be bound: {error}") from error
        try:
            self._servers.append(await self._admin.listen(admin.host, admin.port))
        except OSError as error:
            raise StartupError(f"admin: {admin.host}:{admin.port} cannot be bound: {error}") from error
        gc.collect()
        gc.freeze()  # what lives until the end needs no looking at in every collection
        gc.set_threshold(GC_THRESHOLD)

    @property
    def ports(self) -> tuple[int, int]:
        """The ports that clients and admins use; they matter where 0 was asked for."""
        client, admin = (server.sockets[0].getsockname()[1] for server in self._servers)
        return client, admin

    async def drain(self) -> bool:
        """Stop accepting, finish what runs, cut off what is left after the grace time. True if nothing was cut."""
        router = self.router
        router.drain()
        if self._servers:
            self._servers[0].close()
        for connection in list(router.connections):
            connection.close_idle()
        deadline = time.monotonic() + self._config.limits.drain_timeout_seconds
        while router.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        left = [connection.exchange for connection in router.connections if connection.exchange is not None]
        for exchange in left:
            exchange.expire(Reason.DRAINING)
        await asyncio.sleep(LAST_ANSWERS_SECONDS)
        for connection in list(router.connections):
            connection.cut()
        if left:
            log.warning("%d requests were cut off after %g s", len(left), self._config.limits.drain_timeout_seconds)
        return not left

    async def close(self) -> None:
        """Close ports, connections and background work."""
        for server in self._servers:
            server.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for backend in self._listed:
            backend.mark(False)
        if self._decisions is not None:
            self._decisions.close()
        await asyncio.sleep(0)  # closed transports say so to their protocols in the next turn

    def _is_ready(self) -> bool:
        return bool(self._servers) and not self.router.draining

    def _figures_age(self) -> float | None:
        newest = self._load.board.newest_at
        return None if newest is None else time.monotonic() - newest

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self.router.connections):
                connection.sweep(now)
            for backend in self._listed:
                backend.close_idle(before=now - IDLE_SECONDS)
            if self._decisions is not None:
                self._decisions.flush()
