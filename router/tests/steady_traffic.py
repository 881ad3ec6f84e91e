"""Clients that ask a router without pause while something else changes, and engines whose answers a test times."""

import asyncio

from router_rig import Asked, Engine, Rig, complete, until


async def quick(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer after a moment, so that requests overlap."""
    await asyncio.sleep(0.005)
    await complete(engine, asked, writer)


class Held:
    """A behaviour that answers once it is let."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await self.release.wait()
        await complete(engine, asked, writer)


class Traffic:
    """A few clients, each over a connection of its own, and what they got."""

    def __init__(self, it: Rig, clients: int = 8) -> None:
        self.statuses: list[int] = []
        self.policies: list[str] = []
        self._it = it
        self._stop = False
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self) -> None:
        client = await self._it.client()
        while not self._stop:
            client.post({"prompt": "hello", "max_tokens": 4})
            answer = await client.answer()
            self.statuses.append(answer.status)
            self.policies.append(answer.fields.get("x-bes-policy", ""))

    async def goes_on(self, answers: int = 20) -> None:
        """Wait for so many more answers."""
        enough = len(self.statuses) + answers
        await until(lambda: len(self.statuses) >= enough)

    async def end(self) -> None:
        """Wait for what was asked, and ask no more."""
        self._stop = True
        await asyncio.gather(*self._tasks)
