"""An API server of a few lines that lists and watches EndpointSlices over real HTTP, and fails as it is told to."""

import asyncio
import contextlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from bes_router.discovery.api import ApiServer
from bes_router.discovery.pace import Pace

NAMESPACE = "models"
TOKEN = "first-token"  # noqa: S105 - of the tests
QUICK = Pace(request=2.0, watch=30, silence=1.0, first_pause=0.01, longest_pause=0.05, settled=1.0, jitter=lambda: 0.5)
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Answers instead of the server, or None: it only had to happen before."""


def endpoint(
    name: str, port: int | None = None, ready: bool | None = True, node: str | None = None, **conditions: bool
) -> dict[str, Any]:
    """One endpoint at 127.0.0.1; slices hold endpoints of one port, which the caller keeps."""
    said = {"ready": ready, "serving": ready, **conditions}
    return {
        "addresses": ["127.0.0.1"],
        "conditions": {key: value for key, value in said.items() if value is not None},
        "targetRef": {"kind": "Pod", "name": name, "namespace": NAMESPACE, "uid": f"uid-{name}"},
        **({} if node is None else {"nodeName": node}),
    }


def slice_of(service: str, name: str, port: int, *endpoints: Mapping[str, Any], family: str = "IPv4") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}, {"name": "other", "port": 1}],
    }


@dataclass
class Asked:
    watch: bool
    query: dict[str, str]
    authorization: str


@dataclass
class SliceServer:
    """``list_faults`` and ``watch_faults`` happen to the next requests, one each; ``always`` to every one."""

    account: Path
    secure: ssl.SSLContext | None = None
    pace: Pace = field(default_factory=lambda: QUICK)
    port: int = 0
    version: int = 100
    oldest: int = 0
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    list_faults: list[Fault] = field(default_factory=list)
    watch_faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    page: int = 1000
    watching: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _transports: set[asyncio.Transport] = field(default_factory=set)

    @property
    def server(self) -> ApiServer:
        return ApiServer(f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}", self.account, self.pace)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.secure).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.drop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def put(self, *slices: dict[str, Any]) -> None:
        """Create or replace."""
        for each in slices:
            name = each["metadata"]["name"]
            self._note("MODIFIED" if name in self.objects else "ADDED", each)
            self.objects[name] = each

    def remove(self, name: str) -> None:
        self._note("DELETED", self.objects.pop(name))

    def say(self, line: bytes) -> None:
        """Write something to whoever watches now, and to nobody later."""
        self.version += 1
        self.history.append((self.version, line))
        self._wake()

    def event(self, kind: str, each: Mapping[str, Any]) -> bytes:
        return json.dumps({"type": kind, "object": each}).encode() + b"\n"

    def bookmark(self) -> None:
        metadata = {"resourceVersion": str(self.version + 1)}
        self.say(self.event("BOOKMARK", {"kind": "EndpointSlice", "metadata": metadata}))

    def drop(self) -> None:
        """Cut every connection."""
        for transport in list(self._transports):
            transport.abort()

    def compact(self) -> None:
        """Forget the history: older versions are gone."""
        self.oldest = self.version

    def lists(self) -> int:
        return sum(not asked.watch for asked in self.asked)

    def _note(self, kind: str, each: dict[str, Any]) -> None:
        self.version += 1
        each["metadata"] = each["metadata"] | {"resourceVersion": str(self.version)}
        self.history.append((self.version, self.event(kind, each)))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self._transports.add(cast(asyncio.Transport, request.transport))
        watch = request.query.get("watch") == "1"
        self.asked.append(Asked(watch, dict(request.query), request.headers.get("authorization", "")))
        faults = self.watch_faults if watch else self.list_faults
        for fault in ([self.always] if self.always else []) + ([faults.pop(0)] if faults else []):
            answer = await fault(request)
            if answer is not None:
                return answer
        return await (self._watch(request) if watch else self._list(request))

    def _selected(self, request: web.Request) -> list[dict[str, Any]]:
        wanted = request.query["labelSelector"].removeprefix("kubernetes.io/service-name in (").removesuffix(")")
        services = wanted.split(",")
        return [
            each
            for _, each in sorted(self.objects.items())
            if each["metadata"]["labels"]["kubernetes.io/service-name"] in services
        ]

    async def _list(self, request: web.Request) -> web.Response:
        items = self._selected(request)
        start = int(request.query.get("continue", "0"))
        metadata = {"resourceVersion": str(self.version)}
        if start + self.page < len(items):
            metadata["continue"] = str(start + self.page)
        return web.json_response({"metadata": metadata, "items": items[start : start + self.page]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        if seen < self.oldest:
            return refused(410, "too old resource version")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        self.watching += 1
        try:
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                while True:
                    for version, line in self.history:
                        if version > seen:
                            await response.write(line)
                            seen = version
                    changed = self._changed
                    if not self.history or self.history[-1][0] <= seen:
                        await changed.wait()
        except TimeoutError:
            await response.write_eof()
        finally:
            self.watching -= 1
        return response


def refused(status: int, message: str = "no", **headers: str) -> web.Response:
    body = {"kind": "Status", "code": status, "message": message}
    return web.json_response(
        body, status=status, headers={key.replace("_", "-"): text for key, text in headers.items()}
    )


def answering(status: int, message: str = "no", **headers: str) -> Fault:
    async def fault(_: web.Request) -> web.Response:
        return refused(status, message, **headers)

    return fault


def writing(*parts: bytes, cut: bool = False) -> Fault:
    """Agree to watch, write that and end; ``cut``: by breaking the connection."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        if cut:
            await asyncio.sleep(0.01)
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write_eof()
        return response

    return fault


async def silence(request: web.Request) -> web.StreamResponse:
    """Agree to watch and never say a word."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await asyncio.sleep(60.0)
    return response


def certificate(folder: Path) -> ssl.SSLContext:
    """A new one for 127.0.0.1, which the account in ``folder`` trusts from now on."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-days", "2", "-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "ca.crt")]
    subprocess.run([*command, *about, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "server.key")
    return context


@contextlib.asynccontextmanager
async def slice_server(
    folder: Path, slices: Sequence[dict[str, Any]] = (), *, secure: bool = False
) -> AsyncIterator[SliceServer]:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(TOKEN)
    server = SliceServer(folder, certificate(folder) if secure else None)
    server.put(*slices)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
