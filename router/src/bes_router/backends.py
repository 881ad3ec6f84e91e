"""The engines that requests can be sent to: addresses, readiness, and the idle connections kept to each."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from bes_api.discovery_config import BackendAddress
from bes_router.ejection import Standing

if TYPE_CHECKING:
    from bes_router.upstream import UpstreamConnection

PATHS = (b"/v1/completions", b"/v1/chat/completions")
"""What engines are asked for."""
IDLE_SECONDS = 4.0  # below the 5 s after which uvicorn, which engines run on, closes an idle connection
MAX_IDLE = 1024


class _Line:
    """One engine through configurations. They know only the latest: a chain from each to the next would keep all."""

    __slots__ = ("latest",)

    def __init__(self, latest: "Backend") -> None:
        self.latest = latest


class Backend:
    """One engine; ``engine`` is its number in the catalogue, ``idle`` holds its connections without a request.

    It is ``ready`` while it is healthy, as probes and connects tell, not held back for how it answered, and nobody who
    knows (kubelet) says otherwise.
    """

    __slots__ = (
        "_line",
        "_said",
        "_set_ready",
        "address",
        "engine",
        "failed_probes",
        "health_path",
        "healthy",
        "held",
        "idle",
        "label",
        "listed",
        "model",
        "port",
        "probed_at",
        "ready",
        "request_heads",
        "served",
        "standing",
    )

    def __init__(self, listed: BackendAddress, engine: int, model: int, set_ready: Callable[[int, bool], None]) -> None:
        self.listed = listed
        self.engine = engine
        self.model = model
        self.address = listed.address
        self.port = listed.port
        self.label = f"{listed.model}/{listed.replica}"
        self.served = orjson.dumps(listed.served_model)
        host = f"[{listed.address}]" if ":" in listed.address else listed.address
        fields = f"host: {host}:{listed.port}\r\ncontent-type: application/json\r\n".encode("latin-1")
        self.request_heads = {path: b"POST %b HTTP/1.1\r\n%b" % (path, fields) for path in PATHS}
        self.idle: list[UpstreamConnection] = []
        self.health_path = listed.health_path
        self.healthy = self.held = self.ready = False
        self.probed_at = float("-inf")
        """The instant of the last good probe."""
        self.failed_probes = 0
        """In a row."""
        self.standing = Standing(self.label)
        self._set_ready = set_ready
        self._said: bool | None = None
        self._line = _Line(self)

    def take(self) -> "UpstreamConnection | None":
        """The most recently used idle connection, which the engine is least likely to have closed."""
        return self.idle.pop() if self.idle else None

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Keep a connection whose answer is complete for the next request."""
        if (latest := self._line.latest) is not self:
            connection.backend = latest
            latest.give_back(connection)
            return
        if self.ready and len(self.idle) < MAX_IDLE:
            self.idle.append(connection)
        else:
            connection.close()

    def mark(self, healthy: bool) -> None:
        """Say whether the engine can be reached and calls itself healthy."""
        if (latest := self._line.latest) is not self:
            latest.mark(healthy)
        self.healthy = healthy
        self._settle()

    def vouch(self, ready: bool | None) -> None:
        """What whoever knows (kubelet) says of the engine; None: nobody does. A new yes counts as a good probe."""
        before, self._said = self._said, ready
        if ready and not before:
            self.healthy = True
        self._settle()

    def retire(self) -> None:
        """It is no longer listed: no more requests, whatever a late probe says, and no kept connection."""
        self._said = False
        self._settle()

    def hold(self, held: bool) -> None:
        """Keep the engine out, or no longer, for how it answered."""
        if held != self.held:
            self.held = held
            self._settle()

    def _settle(self) -> None:
        ready = self.healthy and not self.held and self._said is not False
        if ready != self.ready:
            self.ready = ready
            self._set_ready(self.engine, ready)
        if not ready:
            self.close_idle()

    @property
    def latest(self) -> "Backend":
        """The same engine in the newest configuration that lists it."""
        return self._line.latest

    def same_engine(self, other: "Backend") -> bool:
        """Whether ``other`` is this very engine, however its configuration numbers it."""
        mine, its = self.listed, other.listed
        return (mine.address, mine.port, mine.served_model, mine.join) == (
            its.address,
            its.port,
            its.served_model,
            its.join,
        )

    def hand_over(self, successor: "Backend") -> None:
        """Give readiness and kept connections, now and from now on, to the same engine in a new configuration."""
        successor.standing.adopt(self.standing)
        successor.probed_at = self.probed_at
        successor.held = not successor.standing.allowed
        successor.mark(successor.healthy or self.healthy)
        for connection in self.idle:
            connection.backend = successor
        successor.idle += self.idle
        self.idle = []
        self._line.latest, successor._line = successor, self._line

    def close_idle(self, before: float = float("inf")) -> None:
        """Close the connections that have been idle since before the instant ``before``."""
        old = [connection for connection in self.idle if connection.idle_since < before]
        for connection in old:
            self.idle.remove(connection)
            connection.close()
