"""Questions to routers, against real ones' stand-ins on loopback."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from bes_operator.kinds import SERVICE_KIND
from bes_operator.manifest import Key
from bes_operator.routers import Router, Routers, Targets

SERVICE = Key(SERVICE_KIND, "n", "opt")
DIGEST = "sha256:" + "0" * 64
STATUS: dict[str, Any] = {
    "service": "opt",
    "boot_id": "b",
    "started_at": 1.0,
    "uptime_seconds": 1.0,
    "ready": True,
    "draining": False,
    "configuration": {"digest": DIGEST},
    "policy": {"asked": "DeadlineAware", "name": "DeadlineAware", "fallback": False, "failures": 0},
    "tasks": [],
    "errors": {},
    "discovery": {"source": "static"},
    "load": {"source": "direct", "known": 0, "listed": 0, "share": 1.0},
    "in_flight": 0,
    "connections": 0,
    "backends_ready": 0,
    "backends_listed": 0,
    "versions": {},
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def good(request: web.Request) -> web.StreamResponse:
    if request.path != "/status" or request.headers.get("Authorization") != "Bearer secret":
        return web.Response(status=401)
    return web.json_response(STATUS)


def polled(answer: Answer) -> tuple[Any, list[str]]:
    """The last word of a router that answers so, and how the first question ended."""

    async def test() -> tuple[Any, list[str]]:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        outcomes: list[str] = []
        asked = asyncio.Event()
        there = {SERVICE: Targets((Router("pod", "127.0.0.1", runner.addresses[0][1]),), "secret")}
        routers = Routers(lambda: there, lambda _: asked.set(), outcomes.append, 3600.0, 0.5)
        running = asyncio.create_task(routers.run())
        try:
            async with asyncio.timeout(30):
                await asked.wait()
            return routers.last(SERVICE, "pod"), outcomes
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await runner.cleanup()

    return asyncio.run(test())


def test_a_router_is_asked_with_its_token_and_its_word_is_kept() -> None:
    last, outcomes = polled(good)
    status, age = last
    assert (status.boot_id, outcomes) == ("b", ["answered"])
    assert 0 <= age < 30


async def refused(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=401)


async def nonsense(_request: web.Request) -> web.StreamResponse:
    return web.json_response({**STATUS, "in_flight": -1})


async def elsewhere(request: web.Request) -> web.StreamResponse:
    if request.path == "/status":
        return web.Response(status=302, headers={"Location": "/other"})
    return web.json_response(STATUS)


async def endless(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=json.dumps({**STATUS, "service": "x" * (2 << 20)}).encode())


async def never(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


@pytest.mark.parametrize("answer", [refused, nonsense, elsewhere, endless, never])
def test_whatever_is_no_status_is_no_word_and_nothing_waits_for_it(answer: Answer) -> None:
    last, outcomes = polled(answer)
    assert (last, outcomes) == (None, ["failed"])
