"""One process, one GPU: a listening socket per engine, and one timer set to the next instant that a client can see."""

import asyncio
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bes_api.handover import dump_document, load_document
from bes_api.scenario import Frozen, Scenario
from bes_lab.engine.front import Front, fronts_of
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.engine.http import Connection
from bes_lab.errors import TargetError
from bes_router.policy.catalogue import catalogue_of

BACKLOG = 1024


class EngineAddress(Frozen):
    """Where one engine listens."""

    model: str
    replica: int
    host: str
    port: int


class EngineAddresses(Frozen):
    """Where the engines of one GPU listen; written when all of them do, so its presence means *ready*."""

    gpu: int
    engines: tuple[EngineAddress, ...]

    @classmethod
    def read(cls, path: Path) -> "EngineAddresses":
        """Read what ``serve`` wrote."""
        return load_document(cls, path)


@dataclass(frozen=True)
class Serving:
    """What one process is asked to do. ``port`` 0: any free ones; else that one and those after it."""

    scenario: Scenario
    gpu: int
    host: str
    port: int
    addresses: Path | None


class Timer:
    """Wakes the GPU at the next visible instant; loop timers tick in milliseconds, so it rounds up and never spins."""

    def __init__(self, gpu: VirtualGPU) -> None:
        self._gpu = gpu
        self._loop = asyncio.get_running_loop()
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Something changed: find the next instant; an earlier timer that is set already may stay."""
        at = self._gpu.next_visible()
        if at < self._at:
            if self._handle is not None:
                self._handle.cancel()
            self._arm(at)

    def _arm(self, at: float) -> None:
        self._at = at
        delay = max(0.0, at - time.monotonic())
        self._handle = self._loop.call_later(math.ceil(delay * 1e3) / 1e3, self._wake)

    def _wake(self) -> None:
        self._at, self._handle = math.inf, None
        self._gpu.advance(time.monotonic())
        at = self._gpu.next_visible()
        if at < self._at:
            self._arm(at)


def serve(serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvloop.run(_serve(serving))


async def _serve(serving: Serving) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gpu = VirtualGPU(catalogue_of(serving.scenario), serving.gpu)
    timer = Timer(gpu)
    connections: set[Connection] = set()
    servers, found = [], []
    for offset, front in enumerate(fronts_of(serving.scenario, gpu, time.monotonic, int(time.time()), timer.set)):
        port = serving.port + offset if serving.port else 0
        try:
            server = await loop.create_server(_factory(front, connections), serving.host, port, backlog=BACKLOG)
        except (OSError, UnicodeError) as error:  # the latter: no name that can be looked up
            reason = error.strerror if isinstance(error, OSError) else error
            raise TargetError(f"{serving.host}:{port}: cannot listen there ({reason}); name another") from None
        servers.append(server)
        bound = server.sockets[0].getsockname()
        found.append(EngineAddress(model=front.name, replica=front.replica, host=bound[0], port=bound[1]))
        print(f"GPU {serving.gpu}: {front.name} replica {front.replica}, http://{bound[0]}:{bound[1]}", flush=True)  # noqa: T201 - this is the process's log
    if serving.addresses is not None:
        try:
            dump_document(EngineAddresses(gpu=serving.gpu, engines=tuple(found)), serving.addresses)
        except OSError as error:
            raise TargetError(f"--addresses {serving.addresses}: cannot be written ({error.strerror})") from None
    await stop.wait()
    for server in servers:
        server.close()
    for connection in tuple(connections):
        connection.close()


def _factory(front: Front, connections: set[Connection]) -> Callable[[], Connection]:
    return lambda: Connection(front.handle, connections)
