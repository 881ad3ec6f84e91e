"""Which backends are healthy: every engine's own health path is asked at a steady pace, beside the data path."""

import asyncio
import logging
import time
from collections.abc import Sequence

from bes_router import fetch
from bes_router.backends import Backend
from bes_router.errors import Reason, UpstreamError

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 2.0
READY_PROBE_EVERY = 4
"""A ready engine is asked only every so many rounds: one that died is noticed sooner by the next request."""
FAILURES = 2
"""Probes in a row that must fail before a healthy engine counts as gone; a refused connection counts at once."""


class Health:
    """Probes ``backends``, whoever they are at the moment, and marks them; so does the data path's failed connect."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    async def run(self) -> None:
        """Probe for ever."""
        rounds = 0
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            rounds += 1
            due = [backend for backend in self._backends if not backend.ready or rounds % READY_PROBE_EVERY == 0]
            await self.probe(due)

    async def probe(self, backends: Sequence[Backend] | None = None) -> None:
        """Ask each of ``backends`` (None: all) once, side by side."""
        await asyncio.gather(*map(self._probe, tuple(self._backends if backends is None else backends)))

    async def _probe(self, backend: Backend) -> None:
        try:
            status, _ = await fetch.get(backend.address, backend.port, backend.health_path, TIMEOUT_SECONDS)
            failure = "" if 200 <= status < 300 else f"{backend.health_path} answered {status}"
            certain = False
        except UpstreamError as error:
            failure = str(error)
            certain = error.reason is Reason.CONNECT
        if not failure:
            backend.failed_probes = 0
            if not backend.healthy:
                log.info("backend %s (%s:%d) is ready", backend.label, backend.address, backend.port)
            backend.probed_at = time.monotonic()
            backend.mark(True)
            return
        backend.failed_probes += 1
        if not backend.healthy and backend.failed_probes == 1:
            log.info("backend %s is not ready yet: %s", backend.label, failure)
        elif backend.healthy and (certain or backend.failed_probes >= FAILURES):
            log.warning("backend %s is not ready: %s", backend.label, failure)
            backend.mark(False)
