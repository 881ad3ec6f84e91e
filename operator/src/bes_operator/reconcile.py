"""One pass over one service: see, decide (pure), apply what differs, prune, say where it stands. Level-triggered.

Nothing is remembered from pass to pass but what may be lost: what routers had counted, since when calls fail, and which
intents the API server alters. A pass in which nothing changed writes nothing.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from bes_api.conditions import ConditionType, Reason
from bes_api.errors import DocumentError
from bes_api.service import BestEffortService
from bes_api.service_status import ServiceStatus, read_status, write_status
from bes_api.stored import read_stored
from bes_operator.altered import Altered
from bes_operator.cluster import Cluster
from bes_operator.conditions import until_stalled
from bes_operator.decision import Decision, Situation, decide
from bes_operator.desired.request import Complaint
from bes_operator.errors import ClusterError, Denied, Leaving, NameTaken, Refused
from bes_operator.events import Recorder
from bes_operator.execution import Execution
from bes_operator.manifest import Key, Manifest
from bes_operator.observed import Observed
from bes_operator.outside import Outside
from bes_operator.ownership import is_leaving
from bes_operator.routers import Routers
from bes_operator.seen import Seen
from bes_operator.served import Tally, counted, tell
from bes_operator.settings import OperatorSettings
from bes_operator.status import begun, events_of, status_of
from bes_operator.view import admin_token, is_paused, routers_seen, trainings

PATIENCE_SECONDS = 60.0
"""So long calls may fail before the status says so: an API server that restarts is no news."""

_ANEW = "; delete it, and it is made anew (pods that mount an immutable one follow only when they are restarted)"


@dataclass(frozen=True)
class Surroundings:
    """What a pass works with."""

    cluster: Cluster
    observed: Observed
    outside: Outside
    routers: Routers
    recorder: Recorder
    settings: OperatorSettings
    now: Callable[[], datetime]
    new_token: Callable[[], str] = secrets.token_urlsafe


@dataclass
class Reconciler:
    """Its `reconcile` is what a WorkQueue calls; two passes over one service never run at once."""

    around: Surroundings
    _tallies: dict[Key, Tally] = field(default_factory=dict)
    _failing_since: dict[Key, float] = field(default_factory=dict)
    _altered: dict[Key, Altered] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """In how many seconds the next is wanted though nothing changes. ClusterError: this one must be repeated."""
        stored = self.around.observed.get(key)
        if stored is None or is_leaving(stored):  # its children go by their owner reference
            self._failing_since.pop(key, None)
            self._tallies.pop(key, None)
            self._altered.pop(key, None)
            return None
        stored = await self._begin(stored)
        seen = self._seen(key, stored)
        try:
            service = read_stored(stored)
        except DocumentError as error:
            told = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
            unreadable = Complaint(ConditionType.STALLED, Reason.UNREADABLE, told)
            await self._tell(key, stored, replace(seen, complaints=(unreadable,)))
            return None
        seen = replace(seen, service=service, paused=is_paused(stored))
        if seen.paused:
            await self._tell(key, stored, seen)
            return None
        return await self._make_real(key, stored, seen, service)

    async def _begin(self, stored: Manifest) -> Manifest:
        first = begun(read_status(stored), stored["metadata"]["generation"], self.around.now())
        return stored if first is None else await self._write(stored, first)

    def _seen(self, key: Key, stored: Manifest) -> Seen:
        around = self.around
        live = around.observed.of_service(key)
        return Seen(
            name=key.name,
            namespace=key.namespace,
            generation=stored["metadata"]["generation"],
            settings=around.settings,
            now=around.now(),
            service=None,
            previous=read_status(stored),
            live=live,
            routers=routers_seen(around.routers, key, live),
        )

    async def _make_real(self, key: Key, stored: Manifest, seen: Seen, service: BestEffortService) -> float | None:
        decision: Decision | None = None
        failure: ClusterError | None = None
        complaints: tuple[Complaint, ...] = ()
        uid = stored["metadata"]["uid"]
        try:
            token = admin_token(seen.live, key) or self.around.new_token()
            situation = Situation(service, uid, seen, token, trainings(self.around.observed))
            decision = await decide(situation, self.around.outside)
            altered = self._altered.setdefault(key, Altered())
            await self._carry_out(Execution(self.around.cluster, self.around.observed, key, uid, altered), decision)
        except NameTaken as error:
            told = f"{error}; delete or rename them, or give the service another name"
            complaints = (Complaint(ConditionType.STALLED, Reason.NAME_TAKEN, told),)
        except ClusterError as error:
            failure, complaints = error, self._complaints(key, error)
        else:
            self._failing_since.pop(key, None)
        if failure is None or complaints:
            seen = replace(seen, live=self.around.observed.of_service(key), complaints=complaints)
            if decision is not None:
                seen = replace(seen, wanted=decision.wanted, policy=decision.plan)
            await self._tell(key, stored, seen)
        if failure is not None:
            raise failure
        return await self._after(stored, seen, decision, complaints)

    async def _carry_out(self, execution: Execution, decision: Decision) -> None:
        await execution.apply(decision.steps)
        for deletion in decision.plan.deletions:
            await execution.delete(deletion.key, deletion.uid)
        if not decision.wanted.keep_all:
            await execution.prune(decision.keep)

    def _complaints(self, key: Key, error: ClusterError) -> tuple[Complaint, ...]:
        """What the status says of a failed call; nothing, as long as it may be over in a moment."""
        if isinstance(error, Refused):
            mend = _ANEW if "immutable" in error.message else ""
            told = f"the API server will not have it: {error}{mend}"
            return (Complaint(ConditionType.STALLED, Reason.DENIED, told),)
        now = asyncio.get_running_loop().time()
        if now - self._failing_since.setdefault(key, now) < PATIENCE_SECONDS:
            return ()
        if isinstance(error, Denied):
            mend = "give the operator the rights that its chart lists"
            return (Complaint(ConditionType.STALLED, Reason.DENIED, f"{error}; {mend}"),)
        reason = Reason.WAITING if isinstance(error, Leaving) else Reason.API_UNAVAILABLE
        return (Complaint(ConditionType.RECONCILING, reason, str(error)),)

    async def _tell(self, key: Key, stored: Manifest, seen: Seen) -> None:
        """Write the status if it says anything new, and then its events."""
        tally = counted(self._tallies.get(key) or Tally(seen.now), seen.routers)
        tally, served = tell(tally, seen.previous.served, seen.settings, seen.now)
        status = status_of(replace(seen, served=served))
        if write_status(status) != write_status(seen.previous):
            await self._write(stored, status)
            for event in events_of(seen.previous, status):
                await self.around.recorder.record(stored, event)
        self._tallies[key] = tally

    async def _write(self, stored: Manifest, status: ServiceStatus) -> Manifest:
        metadata = {name: stored["metadata"][name] for name in ("namespace", "name", "uid")}
        identity = {name: stored[name] for name in ("apiVersion", "kind")}
        written = await self.around.cluster.write_status(
            {**identity, "metadata": metadata, "status": write_status(status)}
        )
        self.around.observed.saw(written)
        return written

    async def _after(
        self, stored: Manifest, seen: Seen, decision: Decision | None, complaints: tuple[Complaint, ...]
    ) -> float | None:
        """Events of the policy's way, and when to look again: what others own is not watched, and patience ends."""
        soon = self.around.settings.backoff.cap_seconds
        if decision is None or complaints:
            return soon
        for event in decision.plan.events:
            await self.around.recorder.record(stored, event)
        waits = [] if decision.plan.wait_seconds is None else [decision.plan.wait_seconds]
        waits += until_stalled(seen)
        refused = decision.plan.reason is Reason.ARTIFACT_REFUSED and decision.rests_on
        if decision.wanted.complaints or refused:
            self.around.outside.forget(decision.rests_on)
            waits.append(soon)
        return min(waits, default=None)
