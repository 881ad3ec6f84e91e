"""A whole Operation over the cluster in memory, on jumping time: with its controllers, a watch, and faults in both."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from desired_samples import EMULATED, SETTINGS
from in_memory_cluster import Call, InMemoryCluster

from bes_operator.errors import ClusterError
from bes_operator.kinds import CHILD_KINDS, SERVICE_KIND, WITNESS_KINDS
from bes_operator.labels import SERVICE
from bes_operator.manifest import Key, Manifest
from bes_operator.metrics import Metrics
from bes_operator.operation import Operation, Saw
from bes_operator.settings import OperatorSettings

SERVICE_KEY = Key(SERVICE_KIND, "apps", "opt")
Event = tuple[Manifest, str | None]


def sample(path: Path = EMULATED) -> dict[str, Any]:
    """The service in ``path``, as somebody applies it, under the name that these tests know."""
    documents = yaml.safe_load_all(path.read_text())
    service: dict[str, Any] = next(each for each in documents if each["kind"] == SERVICE_KIND)
    service["metadata"] = {"name": SERVICE_KEY.name, "namespace": SERVICE_KEY.namespace}
    service["spec"]["policy"] = {"type": "DeadlineAware"}
    return service


class Rig:
    """Everything beside the operation itself."""

    def __init__(self, settings: OperatorSettings = SETTINGS) -> None:
        self.settings = settings
        self.cluster = InMemoryCluster(after=self._after)
        self.bend: Callable[[list[Event]], list[Event]] = lambda events: events
        """What the watch makes of events: drops, doubles, swaps."""
        self._pending: list[Event] = []
        self._news = asyncio.Event()
        self._last: dict[Key, Manifest] = {}
        self.began_anew: Callable[[], None] | None = None

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())

    @asynccontextmanager
    async def operating(self) -> AsyncIterator[Operation]:
        """An operator that runs in the meantime; leaving ends it, as a kill would."""
        operation = Operation(self.cluster, self.settings, Metrics(), self._watch, self.now)
        running = asyncio.create_task(operation.run())
        try:
            yield operation
        finally:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled() and running.exception() is not None:
                raise running.exception() or AssertionError

    async def settle(self, seconds: float = 700.0) -> None:
        """Long enough for every back-off and two resyncs."""
        await asyncio.sleep(seconds)

    def apply_service(self, service: Manifest | None = None) -> None:
        self.cluster.put(service or sample())
        self.publish()

    def put(self, manifest: Manifest) -> None:
        self.cluster.put(manifest)
        self.publish()

    def remove(self, key: Key) -> None:
        self.cluster.remove(key)
        self.publish()

    def edit(self, key: Key, change: Callable[[dict[str, Any]], None]) -> None:
        self.cluster.edit(key, change)
        self.publish()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[SERVICE_KEY].get("status") or {}
        return found

    def condition(self, name: str) -> tuple[str, str]:
        found = {each["type"]: (each["status"], each["reason"]) for each in self.status().get("conditions") or ()}
        return found.get(name, ("", ""))

    def children(self) -> dict[Key, dict[str, Any]]:
        """What carries the service's label, but for what other controllers made."""
        found = self.cluster.objects.items()
        return {
            k: m for k, m in found if (m["metadata"].get("labels") or {}).get(SERVICE) and k.kind not in WITNESS_KINDS
        }

    def publish(self) -> None:
        """Tell the watch what has changed since the last time."""
        watched = {SERVICE_KIND, *CHILD_KINDS, *WITNESS_KINDS}
        now = {key: copy.deepcopy(value) for key, value in self.cluster.objects.items() if key.kind in watched}
        for key, manifest in now.items():
            if key not in self._last:
                self._pending.append((manifest, "ADDED"))
            elif self._last[key]["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
                self._pending.append((manifest, "MODIFIED"))
        for key in self._last.keys() - now.keys():
            self._pending.append((self._last[key], "DELETED"))
        self._last = now
        self._news.set()

    def _after(self, call: Call) -> None:
        if call.key.kind == "Deployment" and call.key in self.cluster.objects:
            self._roll_out(call.key)
        self.publish()

    def _roll_out(self, key: Key) -> None:
        live = self.cluster.objects[key]
        replicas = live["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
        status = {"observedGeneration": live["metadata"]["generation"], **counts}
        self.cluster.edit(key, lambda manifest: manifest.update(status=status))
        pods = [{"addresses": [f"127.0.0.{i}"]} for i in range(replicas)]  # no pods' names: nobody is asked anything
        labels = {**live["metadata"]["labels"], "kubernetes.io/service-name": key.name}
        self.cluster.put(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": key.namespace,
                    "name": f"{key.name}-slice",
                    "labels": labels,
                    "ownerReferences": [{"uid": live["metadata"]["uid"], "kind": "Deployment", "name": key.name}],
                },
                "endpoints": pods,
            }
        )

    async def _watch(self, saw: Saw, begun_anew: Callable[[], None]) -> None:
        self.began_anew = begun_anew
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(0.1)  # on its way
            events, self._pending = self.bend(self._pending), []
            for manifest, kind in events:
                saw(manifest, kind)


def every(verb: str, error: ClusterError) -> Callable[[Call, int], ClusterError | None]:
    return lambda call, _number: error if call.verb == verb else None
