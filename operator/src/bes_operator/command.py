"""`bes operator`, and `python -m bes_operator`: make every BestEffortService real until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from bes_api.command import Command
from bes_api.errors import ConfigurationError
from bes_operator import logs
from bes_operator.cluster import ApiServer, Cluster, connect
from bes_operator.handlers import watch
from bes_operator.health import HealthServer
from bes_operator.leader import Fenced, Leader
from bes_operator.manifest import Manifest
from bes_operator.metrics import Metrics
from bes_operator.operation import Operation, Saw
from bes_operator.queue import Depth
from bes_operator.settings import OperatorSettings
from bes_operator.settings_sources import configure, settings_from
from bes_operator.supervisor import supervise

_log = logging.getLogger(__name__)


class Process:
    """One operator: serves health and metrics always, and works while it leads."""

    def __init__(self, settings: OperatorSettings, api: ApiServer, metrics: Metrics) -> None:
        self._settings = settings
        self._api = api
        self._metrics = metrics
        self._leader = Leader(api, settings.namespace, settings.leadership, _now)
        self._operation: Operation | None = None
        metrics.watch(self._depth, self._leads, self._services, self._trainings_waiting)
        metrics.tell_conditions(self._stored)
        self._health = HealthServer(metrics, {"everything has been listed": self._synced_if_leading})

    async def run(self) -> None:
        """Until cancelled."""
        host, asked = self._settings.health_host, self._settings.health_port
        try:
            port = await self._health.start(host, asked)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{asked} ({error.strerror}); set --health-port to a free one, or to 0"
            ) from None
        _log.info("operator %s: health on %s:%d", self._settings.leadership.identity, host, port)
        try:
            if self._settings.leadership.enabled:
                await self._leader.run(lambda: self._lead(Fenced(self._api, self._leader)))
            else:
                await self._lead(self._api)
        finally:
            await self._health.close()

    async def _lead(self, cluster: Cluster) -> None:
        self._operation = Operation(cluster, self._settings, self._metrics, self._watch, _now)
        try:
            await self._operation.run()
        finally:
            self._operation = None

    async def _watch(self, saw: Saw, begun_anew: Callable[[], None]) -> None:
        async def body(stop: asyncio.Event) -> None:
            await watch(self._settings, self._api.credentials, saw, stop)

        await supervise("watch", body, self._settings.backoff, random.Random(), begun_anew)

    def _leads(self) -> bool:
        return self._leader.leads() if self._settings.leadership.enabled else self._operation is not None

    def _synced_if_leading(self) -> bool:
        return self._operation is None or self._operation.synced

    def _depth(self) -> Depth:
        return Depth(0, 0.0) if self._operation is None else self._operation.depth()

    def _services(self) -> int:
        return 0 if self._operation is None else self._operation.services()

    def _stored(self) -> tuple[Manifest, ...]:
        return () if self._operation is None else self._operation.stored()

    def _trainings_waiting(self) -> int:
        return 0 if self._operation is None else self._operation.trainings_waiting()


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(settings: OperatorSettings) -> int:
    """Run until SIGTERM or SIGINT; the Lease is given back. Raises ConfigurationError for what a person can mend."""
    metrics = Metrics()
    api = await connect(settings.kubeconfig, settings.request_timeout_seconds, settings.page_size, metrics.called)
    try:
        await _until_told(lambda: Process(settings, api, metrics).run())
    finally:
        await api.close()
    return 0


async def _until_told(body: Callable[[], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    working, told = asyncio.ensure_future(body()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, told):
            task.cancel()
        await asyncio.wait({working, told})
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error


def run(arguments: argparse.Namespace) -> int:
    """0 after SIGTERM or Ctrl-C."""
    settings = settings_from(arguments)
    logs.configure(settings.log_format, settings.log_level)
    return asyncio.run(serve(settings))


OPERATOR = Command(
    name="operator",
    summary="make BestEffortServices real on Kubernetes",
    extra="operator",
    configure=configure,
    run=run,
)
"""The command `bes operator`."""
