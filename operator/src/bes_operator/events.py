"""What a person would want to know, as Kubernetes Events on the service: few, and the same one again is counted."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from bes_operator.cluster import Cluster
from bes_operator.errors import ClusterError, NotLeading
from bes_operator.event import Event
from bes_operator.manifest import Apply, Manifest

_log = logging.getLogger(__name__)
COMPONENT = "besteffort.dev/operator"
EVENT_MANAGER = "best-effort-serving-events"
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_LONGEST_NOTE = 1024
_BURST = 25
_REFILL_SECONDS = 60.0
_SAME_SECONDS = 300.0
_FORGET_SECONDS = 3600.0


@dataclass(frozen=True)
class _Series:
    name: str
    began: str
    count: int
    written_at: float


class Recorder:
    """Writes events. One that cannot be written is logged and dropped: nothing depends on it."""

    def __init__(self, cluster: Cluster, instance: str, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._instance = instance
        self._now = now
        self._series: dict[tuple[str, Event], _Series] = {}
        self._tokens: dict[str, tuple[float, float]] = {}

    async def record(self, service: Manifest, event: Event) -> None:
        """The same event again within five minutes only counts; a service that has too much to say is cut short."""
        now, instant = _now(), self._now().strftime(_MICRO_TIME)
        self._series = {key: one for key, one in self._series.items() if now - one.written_at < _FORGET_SECONDS}
        uid = service["metadata"]["uid"]
        before = self._series.get((uid, event))
        if before is not None:
            series = replace(before, count=before.count + 1)
            if now - before.written_at < _SAME_SECONDS:
                self._series[uid, event] = series
                return
        else:
            series = _Series(_name(service, event, instant), instant, 1, now)
        if not self._may_speak(uid, now):
            return
        self._series[uid, event] = replace(series, written_at=now)
        try:
            await self._cluster.apply(Apply(self._manifest(service, event, series, instant), EVENT_MANAGER))
        except (ClusterError, NotLeading) as error:
            _log.warning("event %s (%s) is lost: %s", event.reason, event.message, error)

    def _may_speak(self, uid: str, now: float) -> bool:
        tokens, since = self._tokens.get(uid, (float(_BURST), now))
        tokens = min(float(_BURST), tokens + (now - since) / _REFILL_SECONDS)
        self._tokens = {known: one for known, one in self._tokens.items() if now - one[1] < _FORGET_SECONDS}
        self._tokens[uid] = (max(tokens - 1.0, 0.0), now)
        return tokens >= 1.0

    def _manifest(self, service: Manifest, event: Event, series: _Series, instant: str) -> Manifest:
        metadata = service["metadata"]
        manifest = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "name": series.name},
            "eventTime": series.began,
            "reportingController": COMPONENT,
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": event.message[:_LONGEST_NOTE],
            "regarding": {
                "apiVersion": service["apiVersion"],
                "kind": service["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        if series.count > 1:
            manifest["series"] = {"count": series.count, "lastObservedTime": instant}
        return manifest


def _name(service: Manifest, event: Event, instant: str) -> str:
    said = f"{service['metadata']['uid']} {event} {instant}"
    return f"{service['metadata']['name']}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _now() -> float:
    return asyncio.get_running_loop().time()
