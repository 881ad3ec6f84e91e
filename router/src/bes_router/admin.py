"""The admin port, apart from clients' traffic: health and metrics for whoever asks, all else for a bearer token."""

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

log = logging.getLogger(__name__)

View = Callable[..., Any]
"""Gives something to write as JSON, None where there is nothing; takes what stands in the path's braces."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_CONNECTION_SECONDS = 60.0
MAX_TOKEN_BYTES = 4096
SHUTDOWN_SECONDS = 1.0
OPTION = "--admin-token"


class TokenFile:
    """The token that opens the views, read anew each time, so that it can be exchanged while the router runs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def refusal(self, authorization: str | None) -> tuple[int, str] | None:
        """Status and mend for whoever sends ``authorization``; None: let in."""
        if self._path is None:
            return 403, f"this needs a token: start the router with {OPTION} FILE, and send what that file holds"
        try:
            with self._path.open("rb") as file:
                token = file.read(MAX_TOKEN_BYTES).strip()
        except OSError as error:
            return 403, f"the file of {OPTION} cannot be read ({error.strerror or error}): write a token into it"
        if not token:
            return 403, f"the file of {OPTION} is empty: write a token into it"
        scheme, _, sent = (authorization or "").partition(" ")
        known = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), token)  # always the same time
        if scheme.lower() != "bearer" or not known:
            return 401, f"send `Authorization: Bearer TOKEN` with what the file of {OPTION} holds"
        return None


class Admin:
    """Serves ``views`` (path -> what it shows) behind ``token``. ``ready`` is asked anew each time."""

    def __init__(
        self, registry: CollectorRegistry, ready: Callable[[], bool], token: TokenFile, views: Mapping[str, View]
    ) -> None:
        self._registry = registry
        self._ready = ready
        self._token = token
        self._paths = ["/healthz", "/readyz", "/metrics", *views]
        app = web.Application(middlewares=[self._said_as_json], client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        for path, view in views.items():
            app.router.add_get(path, self._guarded(view))
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS, keepalive_timeout=15.0
        )
        self._since: dict[Any, float] = {}

    async def start(self, host: str, port: int) -> int:
        """Bind; returns the port. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    def sweep(self, now: float) -> None:
        """Close connections that are open for long: nothing here takes a minute, and a slow asker must not hold one."""
        server = self._runner.server
        self._since = {} if server is None else {each: self._since.get(each, now) for each in server.connections}
        for connection, since in self._since.items():
            if now - since > MAX_CONNECTION_SECONDS:
                connection.force_close()

    async def close(self) -> None:
        """Stop listening and close every connection."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self._ready() else web.Response(text="not ready\n", status=503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    def _guarded(self, view: View) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            refusal = self._token.refusal(request.headers.get("authorization"))
            if refusal is not None:
                status, mend = refusal
                return _error(status, mend, {"www-authenticate": "Bearer"} if status == 401 else {})
            shown = view(*request.match_info.values())
            if shown is None:
                return _error(
                    404, "there is no such decision here, or it is too long ago: the last few thousand are kept"
                )
            return _json(shown)

        return handle

    @web.middleware
    async def _said_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            return _error(405, "only GET is served here", {"allow": error.headers.get("allow", "GET")})
        except web.HTTPNotFound:
            return _error(404, f"there is no such path; there are {', '.join(self._paths)}")
        except Exception:  # the edge: whoever asks gets an answer, and the log says what was wrong
            log.exception("%s could not be shown", request.path)
            return _error(500, "this could not be shown; the router's log says why")


def _json(shown: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    body = shown.model_dump_json().encode() if isinstance(shown, BaseModel) else orjson.dumps(shown)
    return web.Response(
        body=body + b"\n",
        status=status,
        content_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def _error(status: int, mend: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json({"error": {"status": status, "message": mend}}, status, headers)
