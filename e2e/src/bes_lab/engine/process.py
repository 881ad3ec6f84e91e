"""One process, one GPU: a listening socket per engine, and one timer set to the next instant that a client can see."""

import asyncio
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bes_api.handover import dump_document, load_document
from bes_api.scenario import Frozen, Scenario
from bes_api.service import EngineType
from bes_lab.engine.faults import Fault
from bes_lab.engine.front import Front, fronts_of
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.engine.listening import Listening
from bes_lab.errors import TargetError
from bes_router.policy.catalogue import catalogue_of


class EngineAddress(Frozen):
    """Where one engine listens, and what it speaks."""

    model: str
    replica: int
    host: str
    port: int
    type: EngineType = EngineType.EMULATED


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
    types: Mapping[str, EngineType]
    """By model; Emulated where it says nothing."""
    gpu: int
    host: str
    port: int
    addresses: Path | None
    faults: Sequence[tuple[str | None, Fault]] = ()
    """In force from the start: the model whose engines misbehave (None: all), and how."""


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


class _Around:
    """See ``front.Surroundings``."""

    def __init__(self, gpu: VirtualGPU) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = time.monotonic
        self.touched = Timer(gpu).set
        self.listening: dict[int, Listening] = {}

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """See ``Surroundings``."""
        self._loop.call_later(seconds, action)

    def refuse(self, engine: int, seconds: float) -> None:
        """See ``Surroundings``."""
        # One turn later, so that the command's own answer still leaves.
        self._loop.call_soon(self.listening[engine].refuse, seconds)


def serve(serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvloop.run(_serve(serving))


async def _serve(serving: Serving) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gpu = VirtualGPU(catalogue_of(serving.scenario), serving.gpu)
    around = _Around(gpu)
    fronts = fronts_of(serving.scenario, serving.types, gpu, around, int(time.time()))
    found = []
    try:
        for offset, front in enumerate(fronts):
            listening = Listening(front)
            await listening.open(serving.host, serving.port + offset if serving.port else 0)
            around.listening[front.place.engine] = listening
            found.append(_announced(serving.gpu, front, listening))
        for model, fault in serving.faults:
            for front in fronts:
                if model in (None, front.place.model):
                    front.begin(fault)
        if serving.addresses is not None:
            try:
                dump_document(EngineAddresses(gpu=serving.gpu, engines=tuple(found)), serving.addresses)
            except OSError as error:
                raise TargetError(f"--addresses {serving.addresses}: cannot be written ({error.strerror})") from None
        await stop.wait()
    finally:
        for listening in around.listening.values():
            listening.close()


def _announced(gpu: int, front: Front, listening: Listening) -> EngineAddress:
    place = front.place
    url = f"http://{listening.host}:{listening.port}"
    print(f"GPU {gpu}: {place.model} replica {place.replica}, {url} ({place.type})", flush=True)  # noqa: T201 - this is the process's log
    return EngineAddress(
        model=place.model, replica=place.replica, host=listening.host, port=listening.port, type=place.type
    )
