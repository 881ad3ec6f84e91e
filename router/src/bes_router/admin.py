"""The admin port: /healthz, /readyz and /metrics, apart from clients' traffic."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bes_router import http1
from bes_router.errors import MalformedMessageError

TIMEOUT_SECONDS = 5.0
MAX_HEAD_BYTES = 16 * 1024


class Admin:
    """Answers one request per connection. ``ready`` is asked anew each time."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        self._registry = registry
        self._ready = ready

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Bind. Raises OSError."""
        return await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                writer.write(self._answer(await reader.readuntil(http1.HEAD_END)))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a client that does not ask in time or at length gets no answer
        finally:
            writer.close()

    def _answer(self, raw: bytes) -> bytes:
        try:
            head = http1.parse_request_head(raw)
        except MalformedMessageError as error:
            return _text(error.status, str(error))
        if head.method != b"GET":
            return _text(405, "only GET is served here", ((b"allow", b"GET"),))
        if head.path == b"/healthz":
            return _text(200, "ok")
        if head.path == b"/readyz":
            return _text(200, "ready") if self._ready() else _text(503, "not ready")
        if head.path == b"/metrics":
            body = generate_latest(self._registry)
            return http1.response(200, body, content_type=CONTENT_TYPE_LATEST.encode("ascii"), close=True)
        return _text(404, "there is /healthz, /readyz and /metrics")


def _text(status: int, text: str, headers: tuple[http1.Header, ...] = ()) -> bytes:
    return http1.response(status, f"{text}\n".encode(), headers, content_type=b"text/plain; charset=utf-8", close=True)
