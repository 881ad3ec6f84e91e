"""What routers say of themselves: each ready one is asked for its /status now and then, beside everything else.

A reconcile takes the last answer with its age and never waits for one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from bes_api.router_status import RouterStatus
from bes_operator.manifest import Key

_log = logging.getLogger(__name__)
_LONGEST_ANSWER_BYTES = 1 << 20
_AT_ONCE = 16
_TICKS = 10
_SOON, _SLOWER = 1 / 15, 1.5
"""A router that has news to take is first asked again after this share of the usual interval, then ever later: so it is
noticed within half the time that its kubelet took, with some ten questions a change."""


@dataclass(frozen=True)
class Router:
    """One router pod that Kubernetes calls ready."""

    name: str
    """Of its pod."""
    address: str
    port: int


@dataclass(frozen=True)
class Targets:
    """The ready routers of one service, the token that they ask for, and what they shall come to say."""

    routers: tuple[Router, ...]
    token: str
    configuration: str | None = None
    """Digest of what lies there for them to take; None: nothing that could be taken."""
    delivering: bool = False
    """Whether a policy is on its way to them."""

    def awaited_of(self, status: RouterStatus) -> bool:
        """Whether a router that says this has yet to take something. One that refuses it has been heard."""
        told = status.configuration
        return self.delivering or self.configuration not in (None, told.digest, told.refused_digest)


@dataclass(frozen=True)
class _Turn:
    """When a router is asked next."""

    for_news: tuple[str | None, bool]
    """What it was to take when it was last asked."""
    at_seconds: float
    wait_seconds: float


@dataclass(frozen=True)
class Told:
    """The last answer of one router."""

    status: RouterStatus
    at_seconds: float
    """On the event loop's clock."""


class Routers:
    """Asks, and keeps the last answers."""

    def __init__(
        self,
        targets: Callable[[], Mapping[Key, Targets]],
        answered: Callable[[Key], None],
        counted: Callable[[str], None],
        poll_seconds: float,
        timeout_seconds: float,
    ) -> None:
        """``answered`` hears of each service whose routers were asked; ``counted`` of how each question ended."""
        self._targets = targets
        self._answered = answered
        self._counted = counted
        self._poll_seconds = poll_seconds
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._told: dict[tuple[Key, str], Told] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def last(self, service: Key, pod: str) -> tuple[RouterStatus, float] | None:
        """The last answer of one router and its age in seconds; None: it has said nothing yet."""
        told = self._told.get((service, pod))
        return None if told is None else (told.status, _now() - told.at_seconds)

    async def run(self) -> None:
        """Ask every router, wait, and again, until cancelled. New ones, and those with news to take, are asked soon."""
        turns: dict[tuple[Key, Router], _Turn] = {}
        async with aiohttp.ClientSession(timeout=self._timeout, trust_env=False) as session:
            while True:
                targets = self._targets()
                there = {(service, router) for service, each in targets.items() for router in each.routers}
                alive = {(service, router.name) for service, router in there}
                self._told = {one: told for one, told in self._told.items() if one in alive}
                turns = {(s, router): self._turn(turns.get((s, router)), targets[s]) for s, router in there}
                due = {one for one in there if _now() >= turns[one].at_seconds}
                await asyncio.gather(*(self._ask(session, s, router, targets[s].token) for s, router in due))
                turns |= {(s, router): self._next(turns[s, router], targets[s], s, router) for s, router in due}
                for service in {service for service, _ in due}:
                    self._answered(service)
                await asyncio.sleep(self._nap_seconds(turns))

    def _turn(self, before: _Turn | None, targets: Targets) -> _Turn:
        """The same as before, or sooner: a new router now, one with news that it has not been asked for soon."""
        news, soon = (targets.configuration, targets.delivering), _SOON * self._poll_seconds
        if before is None:
            return _Turn(news, _now(), soon)
        if before.for_news == news:
            return before
        return _Turn(news, min(before.at_seconds, _now() + soon), soon)

    def _next(self, turn: _Turn, targets: Targets, service: Key, router: Router) -> _Turn:
        """After it was asked."""
        told = self._told.get((service, router.name))
        if told is not None and not targets.awaited_of(told.status):
            return _Turn(turn.for_news, _now() + self._poll_seconds, self._poll_seconds)
        later = min(self._poll_seconds, turn.wait_seconds * _SLOWER)
        return _Turn(turn.for_news, _now() + turn.wait_seconds, later)

    def _nap_seconds(self, turns: Mapping[tuple[Key, Router], _Turn]) -> float:
        """Until the next is due, and not so long that nobody looks for new ones."""
        soonest = min((turn.at_seconds - _now() for turn in turns.values()), default=self._poll_seconds)
        return max(_SOON / 2 * self._poll_seconds, min(soonest, self._poll_seconds / _TICKS))

    async def _ask(self, session: aiohttp.ClientSession, service: Key, router: Router, token: str) -> None:
        host = f"[{router.address}]" if ":" in router.address else router.address
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://{host}:{router.port}/status"
        try:
            async with (
                self._at_once,
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                response.raise_for_status()
                status = RouterStatus.model_validate_json(await _content(response))
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            self._counted("failed")
            _log.info("%s: router %s says nothing: %s", service, router.name, _short(error))
            return
        self._counted("answered")
        self._told[service, router.name] = Told(status, _now())


async def _content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _LONGEST_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"more than {_LONGEST_ANSWER_BYTES} bytes")
    return bytes(content)


def _short(error: Exception) -> str:
    return "its answer is no status" if isinstance(error, ValidationError) else str(error) or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
