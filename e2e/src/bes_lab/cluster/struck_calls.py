"""Calls to an API server in Kubernetes' words, traps that strike single ones of them, and what is answered then."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

RETRY_AFTER_SECONDS = 1
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_READS = frozenset({"get", "list", "watch"})
_WATCHER = "kopf"


class Fault(StrEnum):
    """What becomes of one call."""

    CONFLICT = "409"
    BUSY = "429"
    """With Retry-After."""
    BROKEN = "500"
    LOST = "lost"
    """Applied, and never answered."""
    CUT = "cut"
    """The connection ends, and nothing was applied."""


REFUSED = {
    Fault.CONFLICT: (409, "Conflict"),
    Fault.BUSY: (429, "TooManyRequests"),
    Fault.BROKEN: (500, "InternalError"),
}


@dataclass(frozen=True)
class Call:
    """One request, in Kubernetes' words. ``kind`` is the plural; "" for discovery."""

    verb: str
    kind: str
    namespace: str
    name: str
    subresource: str
    by_watch: bool
    """From the library that watches, not from the client that lists and writes."""

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.verb not in _READS

    @property
    def about_service(self) -> bool:
        """Whether it is about one object of a service: no list, no watch, no Lease, no discovery."""
        return bool(self.name or self.writes) and self.kind != "leases"

    @property
    def own_write(self) -> bool:
        """A write that a pass without a change must not make: Leases and Events apart."""
        return self.writes and self.kind not in {"leases", "events"}

    def __str__(self) -> str:
        what = "/".join(part for part in (self.kind or "discovery", self.name, self.subresource) if part)
        return f"{self.verb} {what}" + (" (watch)" if self.by_watch else "")


def call_of(method: str, path: str, agent: str, *, watching: bool) -> Call:
    """What a request asks for; a path that is none of a resource is discovery."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    kind, name, subresource = (*rest, "", "", "")[:3]
    verb = _VERBS.get(method) or ("get" if name or not kind else "watch" if watching else "list")
    return Call(verb, kind, namespace, name, subresource, _WATCHER in agent.lower())


@dataclass
class Trap:
    """Strikes the ``nth`` call that matches, once."""

    fault: Fault
    matches: Callable[[Call], bool]
    nth: int = 1
    struck: Call | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the call was struck; of a lost one, when it had been applied."""
    _seen: int = 0

    def takes(self, call: Call) -> bool:
        """Whether this is the call."""
        if self.struck is not None or not self.matches(call):
            return False
        self._seen += 1
        if self._seen == self.nth:
            self.struck = call
        return self.struck is not None


def status_of(code: int, reason: str) -> dict[str, object]:
    """The body of an API server's refusal."""
    said = f"the fault proxy answers {code}"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "reason": reason, "code": code}


def refusal(fault: Fault) -> web.Response:
    """What is answered instead of the API server, of a fault in `REFUSED`."""
    code, reason = REFUSED[fault]
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if fault is Fault.BUSY else {}
    return web.json_response(status_of(code, reason), status=code, headers=headers)
