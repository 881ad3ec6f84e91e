"""A reverse proxy before an API server that can answer instead of it, lose answers, and disturb running watches.

It never makes up a state of the cluster: what it does not disturb is the real server's answer. Towards the operator it
speaks plain HTTP on loopback and needs no credentials; it shows the real server a client certificate.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from bes_lab.cluster.certificates import ADMIN
from bes_lab.cluster.control_plane import LOOPBACK, ControlPlane

RETRY_AFTER_SECONDS = 1
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_READS = frozenset({"get", "list", "watch"})
_PASSED_ON = ("Accept", "Content-Type", "User-Agent")
_PASSED_BACK = ("Content-Type", "Retry-After")
_WATCHER = "kopf"


class Fault(StrEnum):
    """What becomes of one call."""

    CONFLICT = "409"
    BUSY = "429"
    """With Retry-After."""
    BROKEN = "500"
    LOST = "lost"
    """Applied, and never answered."""
    CUT = "cut"
    """The connection ends, and nothing was applied."""


_REASONS = {
    Fault.CONFLICT: (409, "Conflict"),
    Fault.BUSY: (429, "TooManyRequests"),
    Fault.BROKEN: (500, "InternalError"),
}


@dataclass(frozen=True)
class Call:
    """One request, in Kubernetes' words. ``kind`` is the plural; "" for discovery."""

    verb: str
    kind: str
    namespace: str
    name: str
    subresource: str
    by_watch: bool
    """From the library that watches, not from the client that lists and writes."""

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.verb not in _READS

    @property
    def about_service(self) -> bool:
        """Whether it is about one object of a service: no list, no watch, no Lease, no discovery."""
        return bool(self.name or self.writes) and self.kind != "leases"

    @property
    def own_write(self) -> bool:
        """A write that a pass without a change must not make: Leases and Events apart."""
        return self.writes and self.kind not in {"leases", "events"}

    def __str__(self) -> str:
        what = "/".join(part for part in (self.kind or "discovery", self.name, self.subresource) if part)
        return f"{self.verb} {what}" + (" (watch)" if self.by_watch else "")


def call_of(method: str, path: str, agent: str, *, watching: bool) -> Call:
    """What a request asks for; a path that is none of a resource is discovery."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    kind, name, subresource = (*rest, "", "", "")[:3]
    verb = _VERBS.get(method) or ("get" if name or not kind else "watch" if watching else "list")
    return Call(verb, kind, namespace, name, subresource, _WATCHER in agent.lower())


@dataclass
class Trap:
    """Strikes the ``nth`` call that matches, once."""

    fault: Fault
    matches: Callable[[Call], bool]
    nth: int = 1
    struck: Call | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call was struck; of a lost one, when it had been applied."""
    _seen: int = 0

    def takes(self, call: Call) -> bool:
        """Whether this is the call."""
        if self.struck is not None or not self.matches(call):
            return False
        self._seen += 1
        if self._seen == self.nth:
            self.struck = call
        return self.struck is not None


class _Stream:
    """One running watch."""

    def __init__(self, call: Call, request: web.Request, answer: web.StreamResponse) -> None:
        self.call = call
        self.held: list[bytes] = []
        self._request, self._answer = request, answer
        self._ended = asyncio.Event()

    async def run(self, lines: AsyncIterator[bytes], is_held: Callable[[], bool]) -> None:
        async def pump() -> None:
            async for line in lines:
                if is_held():
                    self.held.append(line)
                else:
                    await self._answer.write(line)

        pumping, ended = asyncio.ensure_future(pump()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({pumping, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pumping, ended):
                task.cancel()
            await asyncio.gather(pumping, ended, return_exceptions=True)

    async def write(self, *lines: bytes) -> None:
        with suppress(ConnectionError):  # the watcher may have gone meanwhile
            for line in lines:
                await self._answer.write(line)

    def end(self) -> None:
        self.held.clear()
        self._ended.set()

    def cut(self) -> None:
        self.end()
        if self._request.transport is not None:
            self._request.transport.abort()


class FaultProxy:
    """See the module. Made by `fault_proxy`."""

    def __init__(self, upstream: aiohttp.ClientSession, url: str) -> None:
        self.calls: list[Call] = []
        """All that were asked, in order."""
        self.url = ""
        self._upstream, self._upstream_url = upstream, url
        self._traps: list[Trap] = []
        self._streams: set[_Stream] = set()
        self._held_kinds: set[str] = set()
        self._broken = False

    def set(self, trap: Trap) -> Trap:
        """Lay a trap."""
        self._traps.append(trap)
        return trap

    def count(self) -> Counter[tuple[str, str]]:
        """Calls by verb and kind."""
        return Counter((call.verb, call.kind) for call in self.calls)

    def writes(self) -> int:
        """Writes, Leases and Events apart."""
        return sum(call.own_write for call in self.calls)

    def about_services(self) -> int:
        """Calls about single objects of services."""
        return sum(call.about_service for call in self.calls)

    def clear(self) -> None:
        """Forget the calls that were, and every trap."""
        self.calls.clear()
        self._traps.clear()

    def break_all(self) -> None:
        """Answer 500 to everything from now on; running watches end."""
        self._broken = True
        for stream in tuple(self._streams):
            stream.cut()

    def mend(self) -> None:
        """End `break_all`."""
        self._broken = False

    def drop(self, kind: str) -> int:
        """Cut the running watches of a kind, with what was held back of them; how many there were."""
        streams = tuple(self._of(kind))
        for stream in streams:
            stream.cut()
        return len(streams)

    async def error(self, kind: str, code: int) -> int:
        """Send an ERROR event into the running watches of a kind, and end them; how many there were."""
        reason = "Expired" if code == 410 else "InternalError"
        event = {"type": "ERROR", "object": _status(code, reason)}
        streams = tuple(self._of(kind))
        for stream in streams:
            await stream.write(json.dumps(event).encode() + b"\n")
            stream.end()
        return len(streams)

    def hold(self, kind: str) -> None:
        """Keep events of a kind back, of watches that begin meanwhile too."""
        self._held_kinds.add(kind)

    async def release(self, kind: str, *, shuffled: bool = False) -> int:
        """Send what was held back; ``shuffled``: each event twice, the oldest last. How many events those are."""
        self._held_kinds.discard(kind)
        sent = 0
        for stream in tuple(self._of(kind)):
            lines, stream.held = stream.held, []
            lines = [*lines, *reversed(lines)] if shuffled else lines
            await stream.write(*lines)
            sent += len(lines)
        return sent

    def held(self, kind: str) -> int:
        """Events of a kind that are kept back now."""
        return sum(len(stream.held) for stream in self._of(kind))

    def watched(self, kind: str) -> bool:
        """Whether a watch of a kind runs."""
        return any(True for _ in self._of(kind))

    def _of(self, kind: str) -> Iterator[_Stream]:
        return (stream for stream in self._streams if stream.call.kind == kind)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        watching = request.query.get("watch") in {"1", "true", "True"}
        call = call_of(request.method, request.path, request.headers.get("User-Agent", ""), watching=watching)
        self.calls.append(call)
        trap = next((trap for trap in self._traps if trap.takes(call)), None)
        fault = Fault.BROKEN if self._broken else trap.fault if trap else None
        if fault in _REASONS or fault is Fault.CUT:
            if trap:
                trap.done.set()
            return _refusal(fault) if fault is not Fault.CUT else _cut(request)
        if call.verb == "watch" and fault is None:
            return await self._watch(request, call)
        answer = await self._forward(request) if call.verb != "watch" else None
        if trap is not None:
            trap.done.set()
            await asyncio.Event().wait()  # until the caller gives up, which cancels this
        return answer or _cut(request)

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            async with self._ask(request, body) as found:
                content, status, headers = await found.read(), found.status, _picked(found.headers, _PASSED_BACK)
        except aiohttp.ClientError:
            return _cut(request)
        return web.Response(status=status, body=content, headers=headers)

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        async with self._ask(request, b"") as found:
            answer = web.StreamResponse(status=found.status, headers=_picked(found.headers, _PASSED_BACK))
            with suppress(ConnectionError):  # the watcher may have gone meanwhile
                await answer.prepare(request)
            stream = _Stream(call, request, answer)
            self._streams.add(stream)
            try:
                await stream.run(_lines(found.content), lambda: call.kind in self._held_kinds)
            finally:
                self._streams.discard(stream)
        return answer

    @asynccontextmanager
    async def _ask(self, request: web.Request, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        url = URL(self._upstream_url + request.raw_path, encoded=True)
        headers = _picked(request.headers, _PASSED_ON)
        async with self._upstream.request(request.method, url, headers=headers, data=body or None) as found:
            try:
                yield found
            finally:
                # Not read to its end: a polite end of TLS would outlive the session, and the event loop.
                if found.connection is not None and found.connection.transport is not None:
                    found.connection.transport.abort()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines however long; the end of the stream ends them, and so does a broken connection."""
    rest = b""
    with suppress(aiohttp.ClientError):
        async for chunk in content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"


def _picked(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _status(code: int, reason: str) -> dict[str, object]:
    said = f"the fault proxy answers {code}"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "reason": reason, "code": code}


def _refusal(fault: Fault) -> web.Response:
    code, reason = _REASONS[fault]
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if fault is Fault.BUSY else {}
    return web.json_response(_status(code, reason), status=code, headers=headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


@asynccontextmanager
async def fault_proxy(plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    """A proxy before ``plane`` at a free port; leaving the context ends its connections."""
    connector = aiohttp.TCPConnector(ssl=client_context(plane), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as upstream:
        proxy = FaultProxy(upstream, plane.url)
        application = web.Application(client_max_size=8 << 20)
        application.router.add_route("*", "/{path:.*}", proxy.answer)
        # A caller that gives up ends its handler: else a lost answer, or a watch, would wait for ever.
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, LOOPBACK, 0)
            await site.start()
            port = runner.addresses[0][1]
            proxy.url = f"http://{LOOPBACK}:{port}"
            yield proxy
        finally:
            await runner.cleanup()


def client_context(plane: ControlPlane) -> ssl.SSLContext:
    """TLS towards the real API server, as its administrator."""
    folder = plane.certificates
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / f"{ADMIN}.crt", folder / f"{ADMIN}.key")
    return context


def write_kubeconfig(proxy: FaultProxy, path: Path) -> Path:
    """The kubeconfig of a program that is to speak to the API server through ``proxy``."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "faulty", "cluster": {"server": proxy.url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "faulty", "context": {"cluster": "faulty", "user": "nobody"}}],
        "current-context": "faulty",
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
