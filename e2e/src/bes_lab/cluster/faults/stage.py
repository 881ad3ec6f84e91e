"""What a case plays on: a control plane, operators behind proxies, and what all must come to."""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bes_lab.cluster.control_plane import LOOPBACK, ControlPlane
from bes_lab.cluster.fault_proxy import FaultProxy, fault_proxy, write_kubeconfig
from bes_lab.cluster.faults.asking import Asking, asking, canonical, conditions, orphans
from bes_lab.errors import ClusterError
from bes_lab.local.children import Child, Children
from bes_operator.kinds import KINDS
from bes_operator.observed import OBSERVED_KINDS

LIMIT_SECONDS = 240.0
_POLL_SECONDS = 0.3
_QUIET_LISTINGS = 2
_TLS_SECONDS = 0.5
"""Until connections are closed whose proxy has ended: aiohttp does not wait for the end of TLS."""
_LAST_LISTED = KINDS[OBSERVED_KINDS[-1]].plural

DEFAULTS = ("--log-format", "plain")
QUICK = (
    *DEFAULTS,
    *("--resync-seconds", "3", "--request-timeout-seconds", "8", "--max-trainings", "10000"),
    *("--backoff.first-seconds", "0.1", "--backoff.cap-seconds", "2"),
)
"""Faults are over in seconds instead of minutes: the same paths, sooner. The Lease lasts as long as by default."""
_IMAGES = tuple(f"--images.{name}=localhost/{name}:test" for name in ("router", "training", "engine"))


@dataclass(frozen=True)
class Outcome:
    """What all cases must come to, as an operator that nothing disturbs brings it about."""

    objects: Mapping[str, str]
    conditions: Mapping[str, str]


class Operator:
    """One process behind a proxy; another may be started in its place."""

    def __init__(
        self, children: Children, proxy: FaultProxy, namespace: str, command: Sequence[str], log: Path
    ) -> None:
        self._children, self._command, self._log = children, command, log
        self.proxy, self.namespace = proxy, namespace
        self.child: Child | None = None

    def start(self) -> None:
        """Begin a process."""
        self.child = self._children.start(f"the operator of {self.namespace}", self._command, self._log)

    def kill(self) -> None:
        """As kill -9 does; nothing where it does not run."""
        if self.child is not None:
            self._children.signal(self.child, signal.SIGKILL)
            self.child = None

    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.child is not None and self.child.process.poll() is None

    def said(self) -> str:
        """The end of its log."""
        return "" if self.child is None else self.child.tail()

    def listings(self) -> int:
        """How often it has listed everything."""
        calls = self.proxy.calls
        return sum(call.verb == "list" and call.kind == _LAST_LISTED and not call.by_watch for call in calls)

    async def listed(self, times: int, limit_seconds: float = LIMIT_SECONDS) -> bool:
        """Wait until it has listed everything so often again. False: it has ended, or it takes too long."""
        limit, wanted = time.monotonic() + limit_seconds, self.listings() + times
        while self.listings() < wanted:
            if not self.runs() or time.monotonic() > limit:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


class Stage:
    """Made by `staged`. Namespaces are numbered and of equal length, so that none is another's beginning."""

    def __init__(self, plane: ControlPlane, children: Children, ask: Asking, folder: Path) -> None:
        self.ask = ask
        self._plane, self._children, self._folder = plane, children, folder
        self._prefix = f"faulty-{secrets.token_hex(3)}"  # other stages may have played on the same control plane
        self._number = 0

    @asynccontextmanager
    async def operator(self, flags: Sequence[str] = QUICK) -> AsyncIterator[Operator]:
        """One behind a proxy of its own, for a new namespace of its own, not started yet; killed in the end."""
        self._number += 1
        namespace = f"{self._prefix}-{self._number:05d}"
        await self.ask.make_namespace(namespace)
        async with fault_proxy(self._plane) as proxy:
            kubeconfig = write_kubeconfig(proxy, self._folder / f"{namespace}.kubeconfig")
            command = [sys.executable, "-P", "-W", "error", "-m", "bes_operator", "--kubeconfig", str(kubeconfig)]
            where = ["--namespace", namespace, "--watch-namespaces", namespace]
            health = ["--health-host", LOOPBACK, "--health-port", "0"]
            log = self._folder / f"{namespace}.log"
            operator = Operator(self._children, proxy, namespace, [*command, *where, *_IMAGES, *health, *flags], log)
            try:
                yield operator
            finally:
                operator.kill()

    async def problems(self, namespace: str, wanted: Outcome) -> tuple[str, ...]:
        """How a namespace differs now from what it must come to."""
        service, children = await self.ask.service(namespace), await self.ask.children(namespace)
        found, said = canonical(namespace, children), conditions(service)
        common = found.keys() & wanted.objects.keys()
        notes = {
            "missing": wanted.objects.keys() - found.keys(),
            "too much": found.keys() - wanted.objects.keys(),
            "different": {name for name in common if found[name] != wanted.objects[name]},
            "without owner": orphans((service.get("metadata") or {}).get("uid", ""), children),
            "not said": {f"{name} {value}" for name, value in wanted.conditions.items() if said.get(name) != value},
        }
        return tuple(f"{what}: {', '.join(sorted(names))}" for what, names in notes.items() if names)

    async def settled(self, operator: Operator, wanted: Outcome) -> tuple[str, ...]:
        """Wait until it has come to what it must and two more passes changed nothing; else what is wrong in the end."""
        limit = time.monotonic() + LIMIT_SECONDS
        while True:
            found = await self.problems(operator.namespace, wanted)
            if not found:
                writes = operator.proxy.writes()
                await operator.listed(_QUIET_LISTINGS)
                if operator.proxy.writes() == writes:
                    return await self.problems(operator.namespace, wanted)
                found = ("passes without a change write",)
            if not operator.runs() or time.monotonic() > limit:
                return (*found, operator.said())
            await asyncio.sleep(_POLL_SECONDS)

    async def outcome(self, operator: Operator) -> Outcome:
        """What it comes to once two passes change nothing. Raises ClusterError when it comes to nothing."""
        limit = time.monotonic() + LIMIT_SECONDS
        while True:
            service, children = await self.ask.service(operator.namespace), await self.ask.children(operator.namespace)
            found, said = canonical(operator.namespace, children), conditions(service)
            writes = operator.proxy.writes()
            if not await operator.listed(_QUIET_LISTINGS) or time.monotonic() > limit:
                raise ClusterError(f"an operator that nothing disturbs does not settle:\n{operator.said()}")
            if found and said and operator.proxy.writes() == writes:
                return Outcome(found, said)

    async def cleared(self, operator: Operator) -> tuple[str, ...]:
        """Delete the service and wait until nothing is left of it; what is, in the end."""
        limit = time.monotonic() + LIMIT_SECONDS
        await self.ask.delete_service(operator.namespace)
        while True:
            left = await self.ask.children(operator.namespace)
            if not left and not await self.ask.service(operator.namespace):
                return ()
            if time.monotonic() > limit:
                return (f"left behind: {', '.join(map(str, left)) or 'the service'}",)
            await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def staged(plane: ControlPlane, folder: Path) -> AsyncIterator[Stage]:
    """On a control plane that is ready; operators end with it. Main thread only."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        children = stack.enter_context(Children())
        ask = await stack.enter_async_context(asking(plane))
        await ask.define()
        try:
            yield Stage(plane, children, ask, folder)
        finally:
            await asyncio.sleep(_TLS_SECONDS)
