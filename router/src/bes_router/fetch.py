"""One small GET of an engine's /health or /metrics: bounded in time and size, never on the way of a request."""

import asyncio
from http import HTTPStatus

from bes_router.errors import MalformedMessageError, Reason, UpstreamError
from bes_router.http1 import HEAD_END, ChunkedBody

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024


async def get(address: str, port: int, path: str, timeout: float) -> tuple[int, bytes]:
    """Status and body of ``GET http://address:port/path``. Raises UpstreamError, within ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(address, port, limit=MAX_HEAD_BYTES)
            try:
                host = f"[{address}]" if ":" in address else address
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode("ascii"))
                return await _read(reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise UpstreamError(Reason.SILENT, f"{address}:{port}{path} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise UpstreamError(Reason.CONNECT, f"{address}:{port} cannot be reached: {error}") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, MalformedMessageError, ValueError) as error:
        raise UpstreamError(
            Reason.BAD_RESPONSE, f"{address}:{port}{path} did not answer in HTTP/1.1: {error}"
        ) from None


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(HEAD_END)
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    status = HTTPStatus(int(lines[0].split(b" ")[1])).value if lines[0].startswith(b"HTTP/1.") else 0
    if not status:
        raise ValueError("no status line")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return status, await _read_chunked(reader)
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        if not 0 <= length <= MAX_BODY_BYTES:
            raise ValueError("the answer is too large")
        return status, await reader.readexactly(length)
    body = await reader.read(MAX_BODY_BYTES)
    while more := await reader.read(MAX_HEAD_BYTES):
        body += more
        if len(body) > MAX_BODY_BYTES:
            raise ValueError("the answer is too large")
    return status, body


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    chunks = ChunkedBody(MAX_BODY_BYTES)
    while data := await reader.read(MAX_HEAD_BYTES):
        if chunks.feed(data) is not None:
            return chunks.payload
    raise ValueError("the answer broke off")
