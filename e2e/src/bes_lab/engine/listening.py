"""The listening socket of one engine, which can go away for a while and come back at the same port."""

import asyncio
import logging
import socket

from bes_lab.engine.front import Front
from bes_lab.engine.http import Connection
from bes_lab.errors import TargetError

log = logging.getLogger(__name__)

BACKLOG = 1024
_AGAIN_SECONDS = 0.1


class Listening:
    """``open`` before anything else. The port stays reserved while nobody listens: connections are refused then."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._connections: set[Connection] = set()
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._reopening: asyncio.Task[None] | None = None
        self.host, self.port = "", 0

    async def open(self, host: str, port: int) -> None:
        """Listen. Raises TargetError."""
        loop = asyncio.get_running_loop()
        try:
            family, kind, protocol, _, address = (
                await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            )[0]
            # A bound socket that never listens keeps the port ours; one that listens beside it is allowed.
            self._reserved = socket.socket(family, kind, protocol)
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(address)
            self.host, self.port = self._reserved.getsockname()[:2]
            await self._listen()
        except (OSError, UnicodeError) as error:  # the latter: no name that can be looked up
            self.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise TargetError(f"{host}:{port}: cannot listen there ({reason}); name another") from None

    def refuse(self, seconds: float) -> None:
        """Close the socket and every idle connection; listen again after ``seconds``."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.retire()
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.create_task(self._reopen(seconds))

    def close(self) -> None:
        """Close everything."""
        if self._reopening is not None:
            self._reopening.cancel()
        if self._server is not None:
            self._server.close()
        if self._reserved is not None:
            self._reserved.close()
        for connection in tuple(self._connections):
            connection.close()

    async def _reopen(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while True:
            try:
                await self._listen()
                return
            except OSError as error:
                log.warning("%s:%d: cannot listen again yet (%s)", self.host, self.port, error.strerror)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self.host, self.port, backlog=BACKLOG)

    def _connection(self) -> Connection:
        return Connection(self._front.handle, self._connections)
