"""Clients as a process of its own, so that nothing done to the service holds them up: `python -m ...traffic ORDER`.

Open loop, Poisson arrivals, a share streamed; every router in turn, and the next one where a connection is refused, as
a cluster's service would. It sends until SIGTERM, waits for what is open, and writes what it saw.
"""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

import httptools
import uvloop

from bes_api.handover import dump_document, load_document
from bes_api.output import write_whole
from bes_api.scenario import Frozen
from bes_lab.faults.seen import SEEN, Kind, Seen, body_of, kind_of, prompt_of
from bes_lab.replay.measured import Target

IDLE_SECONDS = 10.0
MOST_NOTES = 30


class Order(Frozen):
    """What to send, to whom, and where to write what came of it."""

    urls: tuple[str, ...]
    tasks: tuple[str, ...]
    out: Path
    rate: float = 50.0
    """Requests a second, all routers together."""
    streamed: float = 0.5
    seed: int = 0
    timeout_seconds: float = 10.0
    tally: bool = False
    """Only count: what single requests saw would fill the memory in a long run."""


class Tally(Frozen):
    """Requests by router and by how they ended, and what was said in the first of those that were not answered."""

    sent: dict[str, int]
    kinds: dict[str, int]
    notes: tuple[str, ...]
    late_seconds: float
    """Of the latest send, after its due instant."""


class _Line(asyncio.Protocol):
    """One connection with at most one request on it."""

    def __init__(self) -> None:
        self.used = time.monotonic()
        self._transport: asyncio.Transport | None = None
        self._forget()

    def _forget(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._raw = b""
        self._done: asyncio.Future[bool] | None = None
        self.began = 0.0
        self.status = 0
        self.model = ""
        self.keep = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    async def ask(self, request: bytes) -> bool:
        """Send and wait; whether the answer is complete by its framing."""
        self._forget()
        self._done = asyncio.get_running_loop().create_future()
        if self._transport is None:
            return False
        self._transport.write(request)
        whole = await self._done
        self.used = time.monotonic()
        return whole

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.began = self.began or time.monotonic()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - an answer's end is in its framing
        self._transport = None
        self._settle(False)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-bes-model":
            self.model = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.keep = self._parser.should_keep_alive()
            self._settle(True)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status

    def _settle(self, whole: bool) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(whole)


class Traffic:
    """The clients."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._targets = [Target.of(url) for url in order.urls]
        self._idle: list[list[_Line]] = [[] for _ in order.urls]
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: list[Seen] = []
        self._sent: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._notes: list[str] = []
        self._late = 0.0

    @property
    def tally(self) -> Tally:
        """What it came to."""
        return Tally(sent=dict(self._sent), kinds=dict(self._kinds), notes=tuple(self._notes), late_seconds=self._late)

    def _note(self, seen: Seen) -> None:
        if not self._order.tally:
            self.seen.append(seen)
            return
        self._sent[str(seen.router) if seen.reached else "none"] += 1
        self._kinds[seen.kind] += 1
        self._late = max(self._late, seen.sent - seen.due)
        if seen.kind is not Kind.ANSWERED and len(self._notes) < MOST_NOTES:
            self._notes.append(f"{seen.kind} {seen.status}: {seen.note}")

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``, then wait for what is open."""
        order, chance = self._order, random.Random(self._order.seed)
        due, number = time.monotonic(), 0
        while True:
            due += chance.expovariate(order.rate)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await stop.wait()
            if stop.is_set():
                break
            asked = Seen(
                number=number,
                router=number % len(self._targets),
                task=chance.choice(order.tasks),
                stream=chance.random() < order.streamed,
                due=due,
            )
            task = asyncio.create_task(self._one(asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
        await asyncio.gather(*self._tasks)
        for line in (line for lines in self._idle for line in lines):
            line.close()

    async def _one(self, asked: Seen) -> None:
        body = body_of(asked.number, self._order.seed, asked.task, asked.stream)
        line, router = await self._line(asked.router)
        sent = time.monotonic()
        if line is None:
            self._note(asked.model_copy(update={"sent": sent, "ended": sent, "reached": False}))
            return
        target = self._targets[router]
        head = f"POST {target.path} HTTP/1.1\r\nhost: {target.host}\r\ncontent-type: application/json\r\n"
        kind, note = Kind.SILENT, ""
        try:
            async with asyncio.timeout(self._order.timeout_seconds):
                whole = await line.ask(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        except TimeoutError:
            line.close()
        else:
            kind = self._judged(asked, line) if whole else Kind.BROKEN if line.status else Kind.LOST
            note = line.body[-300:].decode("utf-8", "replace") if kind is not Kind.ANSWERED else ""
            if whole and line.keep and line.usable:
                self._idle[router].append(line)
            else:
                line.close()
        found = {"router": router, "sent": sent, "began": line.began, "ended": time.monotonic()}
        more = {"status": line.status, "kind": kind, "model": line.model, "note": note}
        self._note(asked.model_copy(update={**found, **more}))

    def _judged(self, asked: Seen, line: _Line) -> Kind:
        return kind_of(line.status, asked.stream, line.body, prompt_of(asked.number, self._order.seed))

    async def _line(self, router: int) -> tuple[_Line | None, int]:
        """A connection to that router, or to the next one that listens."""
        for turn in range(len(self._targets)):
            at = (router + turn) % len(self._targets)
            while self._idle[at]:
                line = self._idle[at].pop()
                if line.usable and time.monotonic() - line.used < IDLE_SECONDS:
                    return line, at
                line.close()
            target = self._targets[at]
            try:
                async with asyncio.timeout(2.0):
                    _, made = await asyncio.get_running_loop().create_connection(_Line, target.host, target.port)
            except OSError:  # TimeoutError is one
                continue
            return made, at
        return None, router


async def _serve(order: Order) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    traffic = Traffic(order)
    await traffic.run(stop)
    if order.tally:
        dump_document(traffic.tally, order.out)
        return
    write_whole(order.out, SEEN.dump_json(sorted(traffic.seen, key=lambda seen: seen.number)).decode())


if __name__ == "__main__":
    uvloop.run(_serve(load_document(Order, Path(sys.argv[1]))))
