"""Everything that runs while this operator leads, made anew each time: watch, lists, queue, questions to routers."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from datetime import datetime

from bes_operator.cluster import Cluster
from bes_operator.errors import ClusterError
from bes_operator.events import Recorder
from bes_operator.labels import COMPONENT, Component
from bes_operator.manifest import Key, Manifest
from bes_operator.metrics import Metrics
from bes_operator.observed import OBSERVED_KINDS, Observed, service_of
from bes_operator.outside import Outside
from bes_operator.queue import Depth, WorkQueue, delay_after
from bes_operator.reconcile import Reconciler, Surroundings
from bes_operator.routers import Routers
from bes_operator.settings import OperatorSettings
from bes_operator.view import targets, trainings_waiting

_log = logging.getLogger(__name__)
_COLLECT_SECONDS = 1.0
Saw = Callable[[Manifest, str | None], None]
Watch = Callable[[Saw, Callable[[], None]], Coroutine[None, None, None]]
"""Tells for ever, from any thread, what it sees, and when it had to begin anew."""


class Operation:
    """See the module. `run` is cancelled when the lead is lost."""

    def __init__(
        self, cluster: Cluster, settings: OperatorSettings, metrics: Metrics, watch: Watch, now: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._watch = watch
        self._chance = random.Random()
        self._observed = Observed(cluster, settings.watch_namespaces)
        self._routers = Routers(
            targets=lambda: targets(self._observed),
            answered=self._queue_add,
            counted=lambda outcome: metrics.polls.labels(outcome).inc(),
            poll_seconds=settings.router_poll_seconds,
            timeout_seconds=settings.router_poll_timeout_seconds,
        )
        around = Surroundings(
            cluster=cluster,
            observed=self._observed,
            outside=Outside(cluster, settings.resync_seconds),
            routers=self._routers,
            recorder=Recorder(cluster, settings.leadership.identity, now),
            settings=settings,
            now=now,
        )
        self._queue: WorkQueue[Key] = WorkQueue(
            Reconciler(around).reconcile, settings.backoff, settings.workers, metrics, self._chance
        )
        self._to_list: set[str] = set()
        self._list_wanted = asyncio.Event()
        self.synced = False
        """Whether everything has been listed once."""

    def depth(self) -> Depth:
        """What waits for a worker."""
        return self._queue.depth()

    def services(self) -> int:
        """How many there are."""
        return len(self._observed.services())

    def stored(self) -> tuple[Manifest, ...]:
        """The services as last seen."""
        found = (self._observed.get(key) for key in self._observed.services())
        return tuple(service for service in found if service is not None)

    def trainings_waiting(self) -> int:
        """How many training Jobs wait for their turn."""
        return trainings_waiting(self._observed)

    async def run(self) -> None:
        """For ever."""
        await self._list(OBSERVED_KINDS)
        self.synced = True
        self._add_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._watching())
            group.create_task(self._list_what_is_wanted())
            group.create_task(self._resync())
            group.create_task(self._routers.run())

    async def _watching(self) -> None:
        here = asyncio.get_running_loop()

        def saw(manifest: Manifest, kind: str | None) -> None:
            here.call_soon_threadsafe(self._saw, manifest, kind)

        def begun_anew() -> None:
            self._metrics.watch_restarts.inc()
            self._want(*OBSERVED_KINDS)

        def begun() -> None:
            here.call_soon_threadsafe(begun_anew)

        await self._watch(saw, begun)

    def _saw(self, manifest: Manifest, event: str | None) -> None:
        if event is None:  # the watch has begun anew, and never says what vanished meanwhile
            self._want(manifest["kind"])
        service = service_of(manifest)
        if not self._observed.saw(manifest, gone=event == "DELETED") or service is None:
            return
        self._queue.add(service)
        if manifest["kind"] == "Job" and manifest["metadata"]["labels"].get(COMPONENT) == Component.TRAINING:
            self._add_those_who_wait()

    def _add_those_who_wait(self) -> None:
        """A training has come or gone: it may be another service's turn."""
        for key in self._observed.all_of("Job"):
            job = self._observed.get(key)
            service = None if job is None else service_of(job)
            if job is not None and service is not None and (job.get("spec") or {}).get("suspend") is True:
                self._queue.add(service)

    def _queue_add(self, service: Key) -> None:
        self._queue.add(service)

    def _add_all(self) -> None:
        for service in self._observed.services():
            self._queue.add(service)

    def _want(self, *kinds: str) -> None:
        self._to_list.update(kinds)
        self._list_wanted.set()

    async def _list_what_is_wanted(self) -> None:
        while True:
            await self._list_wanted.wait()
            await asyncio.sleep(_COLLECT_SECONDS)
            self._list_wanted.clear()
            kinds, self._to_list = self._to_list, set()
            await self._list(sorted(kinds))

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            await self._list(OBSERVED_KINDS)
            self._add_all()

    async def _list(self, kinds: "list[str] | tuple[str, ...]") -> None:
        """Until it has worked."""
        failures = 0
        for kind in kinds:
            while True:
                try:
                    changed = await self._observed.list_kind(kind)
                except ClusterError as error:
                    failures += 1
                    wish = error.retry_after_seconds
                    delay = delay_after(failures, self._settings.backoff, self._chance.random(), wish)
                    self._metrics.lists.labels(error.reason).inc()
                    _log.warning("%s; again in %.1f s", error, delay)
                    await asyncio.sleep(delay)
                    continue
                self._metrics.lists.labels("done").inc()
                for service in changed:
                    self._queue.add(service)
                break
