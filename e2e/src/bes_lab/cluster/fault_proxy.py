"""A reverse proxy before an API server that can answer instead of it, lose answers (`struck_calls`), and disturb
running watches (`disturbed_watches`).

It never makes up a state of the cluster: what it does not disturb is the real server's answer. Towards the operator it
speaks plain HTTP on loopback and needs no credentials; it shows the real server a client certificate.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from bes_lab.cluster.certificates import ADMIN
from bes_lab.cluster.control_plane import LOOPBACK, ControlPlane
from bes_lab.cluster.disturbed_watches import Watches
from bes_lab.cluster.struck_calls import REFUSED, Call, Fault, Trap, call_of, refusal

_PASSED_ON = ("Accept", "Content-Type", "User-Agent")
_PASSED_BACK = ("Content-Type", "Retry-After")


class FaultProxy:
    """See the module. Made by `fault_proxy`."""

    def __init__(self, upstream: aiohttp.ClientSession, url: str) -> None:
        self.calls: list[Call] = []
        """All that were asked, in order."""
        self.url = ""
        self.watches = Watches()
        self._upstream, self._upstream_url = upstream, url
        self._traps: list[Trap] = []
        self._broken = False

    def set(self, trap: Trap) -> Trap:
        """Lay a trap."""
        self._traps.append(trap)
        return trap

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
        self.watches.cut_all()

    def mend(self) -> None:
        """End `break_all`."""
        self._broken = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        watching = request.query.get("watch") in {"1", "true", "True"}
        call = call_of(request.method, request.path, request.headers.get("User-Agent", ""), watching=watching)
        self.calls.append(call)
        trap = next((trap for trap in self._traps if trap.takes(call)), None)
        fault = Fault.BROKEN if self._broken else trap.fault if trap else None
        if fault in REFUSED or fault is Fault.CUT:
            if trap:
                trap.done.set()
            return refusal(fault) if fault is not Fault.CUT else _cut(request)
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
            await self.watches.relay(call.kind, request, answer, found.content)
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


def _picked(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


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
