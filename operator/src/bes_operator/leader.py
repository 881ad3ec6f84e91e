"""Which of several operators may write: whoever holds a Lease, and only while no other can have taken it.

Fenced by time: a leader writes until ``renew_deadline_seconds`` after it last *asked* for a renewal that was granted,
and cuts off what is then on its way before ``duration_seconds`` are over; another takes the Lease only that long after
it last *saw* a renewal. Both measure spans on their own monotonic clock, so clocks need not agree.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from bes_operator.cluster import Cluster
from bes_operator.errors import ClusterError, NotLeading, TimedOut
from bes_operator.manifest import Apply, Key, Manifest, key_of
from bes_operator.settings import Leadership

_log = logging.getLogger(__name__)
T = TypeVar("T")
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class _Sighting:
    """What another holder's Lease looked like, and when we first saw it so."""

    version: str
    """Its resourceVersion: whatever changes it is a sign of life."""
    since: float


class Leader:
    """One candidate. ``leads()`` says whether it may write now."""

    def __init__(self, cluster: Cluster, namespace: str, settings: Leadership, now: Callable[[], datetime]) -> None:
        """``now`` is written into the Lease for people to read, and decides nothing."""
        self._cluster = cluster
        self._key = Key("Lease", namespace, settings.lease)
        self._settings = settings
        self._now = now
        self._renewed_at: float | None = None
        self._seen: _Sighting | None = None

    def leads(self) -> bool:
        """Whether this operator may begin a write."""
        return self.seconds_left(self._settings.renew_deadline_seconds) > 0

    def seconds_left(self, span_seconds: float) -> float:
        """Until so long after the last renewal."""
        return 0.0 if self._renewed_at is None else self._renewed_at + span_seconds - _now()

    def seconds_to_end_writes(self) -> float:
        """What is on its way must have ended by then: another may write soon after."""
        margin = self._settings.retry_seconds / 2
        return self.seconds_left(self._settings.duration_seconds - margin)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Become the leader, ``lead`` while it lasts (cancelled, and awaited, when it ends), and again, for ever.

        When this is cancelled the Lease is given back, so that another need not wait for it to run out.
        """
        try:
            while True:
                await self._until(self._settings.retry_seconds, leading=True)
                _log.info("leader: %s holds %s", self._settings.identity, self._key)
                await self._lead(lead)
                _log.warning("leader: %s lost %s; nothing is written any more", self._settings.identity, self._key)
        finally:
            await self._give_back()

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        work = asyncio.ensure_future(lead())
        renewing = asyncio.create_task(self._until(self._settings.retry_seconds, leading=False))
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, renewing):
                task.cancel()
            await asyncio.wait({work, renewing})
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _until(self, pause_seconds: float, *, leading: bool) -> None:
        """Ask for the Lease again and again until we do (or do not) lead."""
        while True:
            await self._try()
            if self.leads() == leading:
                return
            pause = pause_seconds
            if not leading:
                pause = min(pause, max(0.0, self.seconds_left(self._settings.renew_deadline_seconds)))
            await asyncio.sleep(pause)

    async def _try(self) -> None:
        asked_at = _now()
        span = self._settings.renew_deadline_seconds
        try:
            async with asyncio.timeout(self.seconds_left(span) if self.leads() else span):
                granted = await self._ask(await self._cluster.read(self._key))
        except (ClusterError, TimeoutError) as error:
            _log.warning("leader: %s not renewed: %s", self._key, str(error) or "no answer in time")
            return
        self._renewed_at = asked_at if granted else None

    async def _ask(self, lease: Manifest | None) -> bool:
        if lease is None:
            await self._cluster.create(self._lease(None))
            return True
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        if holder not in ("", self._settings.identity) and not self._ran_out(lease):
            return False
        await self._cluster.replace(self._lease(lease))
        return True

    def _ran_out(self, lease: Manifest) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Sighting(version, _now())
        stated = (lease.get("spec") or {}).get("leaseDurationSeconds")
        return _now() >= self._seen.since + float(stated or self._settings.duration_seconds)

    def _lease(self, lease: Manifest | None) -> Manifest:
        instant = self._now().strftime(_MICRO_TIME)
        spec = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._settings.identity:
            spec["acquireTime"] = instant
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (lease is not None)
        spec |= {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": int(self._settings.duration_seconds),
            "renewTime": instant,
        }
        metadata = {"namespace": self._key.namespace, "name": self._key.name}
        if lease is not None:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    async def _give_back(self) -> None:
        if not self.leads():
            return
        self._renewed_at = None
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(self._settings.retry_seconds):
                lease = await self._cluster.read(self._key)
                if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._settings.identity:
                    given = self._lease(lease)
                    await self._cluster.replace({**given, "spec": {**given["spec"], "holderIdentity": ""}})


class Fenced:
    """A cluster whose writes this operator makes only while it leads. NotLeading: it does not, or no longer."""

    def __init__(self, cluster: Cluster, leader: Leader) -> None:
        self._cluster = cluster
        self._leader = leader
        self.read = cluster.read
        self.list = cluster.list

    async def apply(self, step: Apply) -> Manifest:
        """See Cluster."""
        return await self._write(lambda: self._cluster.apply(step), step.manifest)

    async def write_status(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        return await self._write(lambda: self._cluster.write_status(manifest), manifest)

    async def create(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        return await self._write(lambda: self._cluster.create(manifest), manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        return await self._write(lambda: self._cluster.replace(manifest), manifest)

    async def delete(self, key: Key, uid: str) -> None:
        """See Cluster."""
        await self._write(lambda: self._cluster.delete(key, uid), key)

    async def _write(self, write: Callable[[], Awaitable[T]], about: Manifest | Key) -> T:
        key = about if isinstance(about, Key) else key_of(about)
        if not self._leader.leads():
            raise NotLeading(f"write {key}: this operator does not hold the Lease")
        try:
            async with asyncio.timeout(self._leader.seconds_to_end_writes()):
                return await write()
        except TimeoutError:
            raise TimedOut(f"write {key}", "cut off: the Lease was not renewed in time") from None


def _now() -> float:
    return asyncio.get_running_loop().time()
