"""Running watches through a proxy, and what may happen to them: cut, ended by an error, held back, told twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import aiohttp
from aiohttp import web

from bes_lab.cluster.struck_calls import status_of


class _Stream:
    """One running watch."""

    def __init__(self, kind: str, request: web.Request, answer: web.StreamResponse) -> None:
        self.kind = kind
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


class Watches:
    """Those that run now. Kinds are plurals."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()
        self._held_kinds: set[str] = set()

    async def relay(
        self, kind: str, request: web.Request, answer: web.StreamResponse, content: aiohttp.StreamReader
    ) -> None:
        """Write the events of ``content`` to ``answer``, disturbed as is asked meanwhile, until either side ends."""
        stream = _Stream(kind, request, answer)
        self._streams.add(stream)
        try:
            await stream.run(_lines(content), lambda: kind in self._held_kinds)
        finally:
            self._streams.discard(stream)

    def cut_all(self) -> None:
        """Cut every running watch."""
        for stream in tuple(self._streams):
            stream.cut()

    def drop(self, kind: str) -> int:
        """Cut the running watches of a kind, with what was held back of them; how many there were."""
        streams = tuple(self._of(kind))
        for stream in streams:
            stream.cut()
        return len(streams)

    async def error(self, kind: str, code: int) -> int:
        """Send an ERROR event into the running watches of a kind, and end them; how many there were."""
        reason = "Expired" if code == 410 else "InternalError"
        event = {"type": "ERROR", "object": status_of(code, reason)}
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
        return (stream for stream in self._streams if stream.kind == kind)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines however long; the end of the stream ends them, and so does a broken connection."""
    rest = b""
    with suppress(aiohttp.ClientError):
        async for chunk in content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
