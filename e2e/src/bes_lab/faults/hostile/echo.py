"""An engine that repeats each prompt, gives hostile answers to hostile prompts, and notes what should not reach it."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bes_lab.faults.hostile.answers import hostile_answer, stream, whole
from bes_lab.faults.hostile.requests import SMUGGLED

METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
_LINES = frozenset({"POST /v1/completions HTTP/1.1", "POST /v1/chat/completions HTTP/1.1"})
_HOSTILE = re.compile(r"hostile answer (\d+)$")


@dataclass
class Echo:
    """``improper`` are messages that a router must not send; the attempts are counted per hostile prompt."""

    seed: int
    improper: list[str] = field(default_factory=list)
    served: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        """Listen at a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the router has left
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        if line.startswith("GET "):
            body = METRICS if line.startswith("GET /metrics") else b""
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            return True
        named = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in fields)]
        lengths = [value for name, value in named if name == "content-length"]
        if line not in _LINES or len(lengths) != 1 or any(name == "transfer-encoding" for name, _ in named):
            self.improper.append(f"{line} {named}")
            return False
        return await self._answer(await reader.readexactly(int(lengths[0])), writer)

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        self.served += 1
        document: dict[str, Any] = json.loads(body)
        prompt = document.get("prompt", "")
        text = prompt if isinstance(prompt, str) else ""
        if document.get("model") not in {"org/small", "org/large"} or text == SMUGGLED:
            self.improper.append(f"{body[:200]!r}")
        hostile = _HOSTILE.match(text)
        if hostile is None:
            marker = json.dumps(text)[1:-1].encode()
            writer.write(stream(marker) if document.get("stream") is True else _repeated(text))
            return True
        number = int(hostile[1])
        self.attempts[number] += 1
        reply = hostile_answer(number, self.seed, self.attempts[number])
        for piece in reply.pieces:
            if writer.is_closing():  # the router has seen enough
                return False
            writer.write(piece)
            if reply.pause:
                await asyncio.sleep(reply.pause)
        if reply.then == "reset":
            await asyncio.sleep(0.002)
            writer.transport.abort()
        return reply.then == "keep"


def _repeated(text: str) -> bytes:
    return whole(json.dumps(text, ensure_ascii=True)[1:-1].encode()) if text.isascii() else whole(b"x")
