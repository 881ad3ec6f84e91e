"""The engines that requests can be sent to: addresses, readiness, and the idle connections kept to each."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from bes_api.router_config import BackendAddress
from bes_router.policy.layout import Catalogue

if TYPE_CHECKING:
    from bes_router.upstream import UpstreamConnection

IDLE_SECONDS = 4.0  # below the 5 s after which uvicorn, which engines run on, closes an idle connection
MAX_IDLE = 1024


class Backend:
    """One engine; ``engine`` is its number in the catalogue, ``idle`` holds its connections without a request."""

    __slots__ = ("_set_ready", "address", "engine", "idle", "label", "model", "port", "ready", "request_head", "served")

    def __init__(self, listed: BackendAddress, engine: int, model: int, set_ready: Callable[[int, bool], None]) -> None:
        self.engine = engine
        self.model = model
        self.address = listed.address
        self.port = listed.port
        self.label = f"{listed.model}/{listed.replica}"
        self.served = orjson.dumps(listed.served_model)
        host = f"[{listed.address}]" if ":" in listed.address else listed.address
        self.request_head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: {host}:{listed.port}\r\ncontent-type: application/json\r\n"
        ).encode("latin-1")
        self.idle: list[UpstreamConnection] = []
        self.ready = False
        self._set_ready = set_ready

    def take(self) -> "UpstreamConnection | None":
        """The most recently used idle connection, which the engine is least likely to have closed."""
        return self.idle.pop() if self.idle else None

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Keep a connection whose answer is complete for the next request."""
        if self.ready and len(self.idle) < MAX_IDLE:
            self.idle.append(connection)
        else:
            connection.close()

    def mark(self, ready: bool) -> None:
        """Say whether the engine may be chosen; connections to one that may not are closed."""
        if ready != self.ready:
            self.ready = ready
            self._set_ready(self.engine, ready)
        if not ready:
            self.close_idle()

    def close_idle(self, before: float = float("inf")) -> None:
        """Close the connections that have been idle since before the instant ``before``."""
        old = [connection for connection in self.idle if connection.idle_since < before]
        for connection in old:
            self.idle.remove(connection)
            connection.close()


def backends_of(
    listed: Sequence[BackendAddress],
    models: Sequence[str],
    catalogue: Catalogue,
    set_ready: Callable[[int, bool], None],
) -> list[Backend | None]:
    """A backend per engine of the catalogue, None where nothing is listed. All start as not ready."""
    found: list[Backend | None] = [None] * len(catalogue.engine_model)
    for address in listed:
        model = models.index(address.model)
        engine = catalogue.model_first[model] + address.replica
        found[engine] = Backend(address, engine, model, set_ready)
    for engine in range(len(found)):
        set_ready(engine, False)
    return found
