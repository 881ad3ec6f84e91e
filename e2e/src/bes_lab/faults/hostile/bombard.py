"""Hostile requests, or hostile answers, against a router in this process, among good requests; then it is counted.

In one process, because what must not leak (tasks, leases, descriptors, connections' objects) is only seen from inside.
"""

import asyncio
import contextlib
import gc
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools
import psutil
import uvloop

from bes_lab.faults.hostile.answers import EVIL, marker_of
from bes_lab.faults.hostile.besieged import router_before
from bes_lab.faults.hostile.echo import Echo
from bes_lab.faults.hostile.requests import Hostile, Then, hostile_request, request
from bes_router.lease import Lease
from bes_router.relay import Exchange
from bes_router.running import RunningRouter
from bes_router.server import ClientConnection
from bes_router.upstream import UpstreamConnection

WORKERS = 16
GOOD_EVERY = 3
"""One good request after so many hostile ones, of each worker."""
READ_SECONDS = 3.0
_RESET = struct.pack("ii", 1, 0)
_KINDS = (ClientConnection, UpstreamConnection, Exchange, Lease)


@dataclass
class Toll:
    """What it came to. ``amiss`` should be nothing."""

    hostile: int = 0
    given: int = 0
    """Hostile answers that engines gave: a request is tried at up to three, or at none where all are kept out."""
    good: int = 0
    refused: int = 0
    """Good requests that were answered with an error of the router's; engines are ejected under hostile answers."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Of hostile requests; 0: no answer."""
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Good requests that got neither their answer nor a clear error."""
    crashes: list[str] = field(default_factory=list)
    improper: list[str] = field(default_factory=list)
    leaked: dict[str, int] = field(default_factory=dict)
    serves_after: bool = False

    @property
    def amiss(self) -> list[str]:
        """Everything that should not be, in words."""
        found = [f"another's bytes: {each}" for each in self.foreign]
        found += [f"no answer: {each}" for each in self.failed]
        found += [f"crash: {each}" for each in self.crashes]
        found += [f"reached an engine: {each}" for each in self.improper]
        found += [f"leaked {count} {what}" for what, count in self.leaked.items() if count]
        return found if self.serves_after else [*found, "it serves no more"]


def bombard(count: int, seed: int, *, answers: bool) -> Toll:
    """``count`` hostile requests, or requests with hostile answers (``answers``)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_bombard(count, seed, answers))


async def _bombard(count: int, seed: int, answers: bool) -> Toll:
    toll = Toll()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: toll.crashes.append(_told(context)))
    async with router_before(seed) as (running, engines):
        for number in range(10):
            await _good(running, toll, f"warm-{number}")
        before = await _counts(running)
        numbers = _until_given(engines, count) if answers else iter(range(count))
        await asyncio.gather(*(_work(running, toll, numbers, seed, answers, worker) for worker in range(WORKERS)))
        toll.leaked = {what: max(0, held - before[what]) for what, held in (await _counts(running)).items()}
        toll.given = _given(engines)
        for engine in engines:
            toll.improper += engine.improper
        toll.serves_after = await _serves(running)
    return toll


def _given(engines: Sequence[Echo]) -> int:
    return sum(engine.attempts.total() for engine in engines)


def _until_given(engines: Sequence[Echo], count: int) -> Iterator[int]:
    number = 0
    while _given(engines) < count:
        yield number
        number += 1


def _told(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


async def _work(
    running: RunningRouter, toll: Toll, numbers: Iterator[int], seed: int, answers: bool, worker: int
) -> None:
    for turn, number in enumerate(numbers):  # shared by all workers
        if answers:
            await _provoke(running, toll, number)
        else:
            await _attack(running, toll, hostile_request(number, seed))
        toll.hostile += 1
        if turn % GOOD_EVERY == 0:
            await _good(running, toll, f"good-{worker}-{turn}")


async def _attack(running: RunningRouter, toll: Toll, hostile: Hostile) -> None:
    """Send and read whatever comes until the router closes, or ten answers have."""
    reader, writer = await _connected(running)
    answer = b""
    try:
        for number, piece in enumerate(hostile.pieces):
            if number:
                await asyncio.sleep(hostile.pause)
            writer.write(piece)
        if hostile.then in (Then.CLOSE, Then.RESET):
            await asyncio.sleep(0)
        elif hostile.then is Then.HALF_CLOSE:
            writer.write_eof()
        if hostile.then in (Then.READ, Then.HALF_CLOSE):
            async with asyncio.timeout(READ_SECONDS):
                while data := await reader.read(1 << 16):
                    answer += data
                    if _settled(answer):
                        break
    except (ConnectionError, TimeoutError, OSError):
        pass
    finally:
        _drop(writer, reset=hostile.then is Then.RESET)
    status = answer[9:12]
    toll.statuses[int(status) if status.isdigit() else 0] += 1
    if b'"good-' in answer or b"warm-" in answer:
        toll.foreign.append(f"{hostile.family} was given {answer[:300]!r}")


def _settled(answer: bytes) -> bool:
    """A 200 with its end: the connection stays open then, and nobody need wait for it."""
    return answer.startswith(b"HTTP/1.1 200") and (answer.endswith((b"]}", b"0\r\n\r\n")))


async def _provoke(running: RunningRouter, toll: Toll, number: int) -> None:
    """Ask for a hostile answer."""
    prompt = f"hostile answer {number}"
    status, body = await _asked(running, prompt, stream=number % 2 == 0)
    toll.statuses[status] += 1
    if b"good-" in body or b"warm-" in body or _another(body, number):
        toll.foreign.append(f"{prompt} was given {body[:300]!r}")


def _another(body: bytes, number: int) -> bool:
    """Whether it holds the marker of another hostile prompt."""
    found = {(int(each[1]), each[0]) for each in EVIL.finditer(body)}
    return any(other != number and marker == marker_of(other) for other, marker in found)


async def _good(running: RunningRouter, toll: Toll, marker: str) -> None:
    """Ask and look whether the answer is this request's."""
    status, body = await _asked(running, marker, stream=random.random() < 0.5)
    toll.good += 1
    if status == 200 and f'"{marker}"'.encode() in body and body.count(b"good-") <= 3 and not EVIL.search(body):
        return
    if status in (429, 503, 504) and b'"error"' in body:
        toll.refused += 1
    elif status == 200:
        toll.foreign.append(f"{marker} was given {body[:300]!r}")
    else:
        toll.failed.append(f"{marker}: {status} {body[:300]!r}")


class _Answer:
    """httptools' callbacks of one answer."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def _asked(running: RunningRouter, prompt: str, stream: bool) -> tuple[int, bytes]:
    """Status (0: no whole answer) and body."""
    reader, writer = await _connected(running)
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    try:
        writer.write(request(json.dumps({"prompt": prompt, "max_tokens": 4, "stream": stream}).encode()))
        async with asyncio.timeout(READ_SECONDS * 2):
            while not answer.complete:
                data = await reader.read(1 << 16)
                parser.feed_data(data)
                if not data:
                    break
    except (ConnectionError, TimeoutError, OSError, httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    finally:
        _drop(writer, reset=False)
    return (parser.get_status_code() if answer.complete else 0), answer.body


async def _connected(running: RunningRouter) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", running.ports[0])


def _drop(writer: asyncio.StreamWriter, reset: bool) -> None:
    sock = writer.get_extra_info("socket")
    if reset and sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _serves(running: RunningRouter) -> bool:
    """Whether every one of ten requests is answered, once engines that were kept out are back."""
    for _ in range(150):
        toll = Toll()
        for number in range(10):
            await _good(running, toll, f"after-{number}")
        if not (toll.refused or toll.failed or toll.foreign):
            return True
        await asyncio.sleep(0.1)
    return False


async def _counts(running: RunningRouter) -> dict[str, int]:
    """What is held once everybody has gone; waits until it is at rest."""
    tracker = running.router.serving.tracker
    for _ in range(100):
        for backend in running.generation.backends:
            backend.close_idle(before=float("inf"))
        await asyncio.sleep(0.05)
        if not (tracker.in_flight or running.router.connections):
            break
    await asyncio.sleep(0.2)
    gc.collect()
    alive = Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, _KINDS))
    return {
        "requests in flight": tracker.in_flight,
        "sequences in flight": int(sum(tracker.own[engine] for engine in range(len(tracker.own)))),
        "client connections": len(running.router.connections),
        "tasks": len(asyncio.all_tasks()),
        "descriptors": psutil.Process().num_fds(),
        **{f"objects {kind.__name__}": alive[kind.__name__] for kind in _KINDS},
    }
