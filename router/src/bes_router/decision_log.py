"""A log of decisions, a JSON line each, with everything that is needed to take them again: request, view, instant.

The first line says scenario and policy, and another such line follows when they change. Prompts are never in it.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bes_api.scenario import Scenario
from bes_router.errors import StartupError
from bes_router.policy.layout import Decision, LoadView, RoutingRequest

log = logging.getLogger(__name__)

VERSION = 1
BUFFER_BYTES = 1 << 20


class DecisionLog:
    """Appends to ``path``. A disk that fails ends the log, not the service."""

    def __init__(self, path: Path, scenario: Scenario, policy: str) -> None:
        try:
            self._file: BinaryIO | None = path.open("wb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise StartupError(f"--decision-log {path}: cannot be written: {error.strerror or error}") from error
        self._path = path
        self.begin(scenario, policy)

    def begin(self, scenario: Scenario, policy: str) -> None:
        """Write a first line: what follows was decided for this scenario by this policy."""
        self._write({"version": VERSION, "policy": policy, "scenario": scenario.model_dump(mode="json")})
        self.flush()

    def decided(
        self, number: int, request: RoutingRequest, view: LoadView, now: float, decision: Decision, policy: str
    ) -> None:
        """Write one decision, before anything changes the view; ``policy``: who took it."""
        self._write(
            {
                "number": number,
                "now": now,
                "request": request._asdict(),
                "view": view._asdict(),
                "decision": decision._asdict(),
                "policy": policy,
            }
        )

    def flush(self) -> None:
        """Bring what was written to disk; called once a second and at the end."""
        self._guarded(lambda file: file.flush())

    def close(self) -> None:
        """Flush and close."""
        self._guarded(lambda file: file.close())
        self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        self._guarded(lambda file: file.write(data))

    def _guarded(self, act: Callable[[BinaryIO], Any]) -> None:
        if self._file is None:
            return
        try:
            act(self._file)
        except OSError as error:
            log.error("the decision log %s ends here: %s", self._path, error)
            with contextlib.suppress(OSError):  # it would flush once more
                self._file.close()
            self._file = None
