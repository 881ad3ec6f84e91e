"""What a training has finished so far, in one file: the same command goes on where the last one was stopped.

Every stage is seeded by itself, so a training that was stopped and resumed between stages ends in the same artifact.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bes_api.errors import BestEffortError
from bes_api.output import write_whole
from bes_training.evolution.search import Found

JOURNAL = "training.json"


class JournalError(BestEffortError):
    """The folder holds another training, or one that cannot be read."""


class Journal:
    """Finished stages by name, and what each cost. ``identity``: which training; another one's journal is refused."""

    def __init__(self, folder: Path, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / JOURNAL
        self._identity = identity
        self._clock = clock
        self._stages: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        if self._path.exists():
            self._stages, self._seconds = self._read()

    @property
    def seconds(self) -> float:
        """Wall time of all stages so far, whichever run of the training they belong to."""
        return sum(self._seconds.values())

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what happens inside to the stage's wall time, also where it is interrupted."""
        started = self._clock()
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + self._clock() - started
            self._write()

    def found(self, stage: str) -> Found | None:
        """What a finished stage kept, or None where it has not finished."""
        entry = self._stages.get(stage)
        if entry is None:
            return None
        try:
            curve = tuple((int(decisions), float(loss)) for decisions, loss in entry["curve"])
            vector = np.array(entry["vector"], dtype=np.float64)
            found = Found(**{**entry, "vector": vector, "curve": curve})
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise self._unreadable(f"{stage}: its vector is none")
        return found

    def keep(self, stage: str, found: Found) -> None:
        """Note a finished stage; the file is replaced as a whole."""
        self._stages[stage] = {**asdict(found), "vector": found.vector.tolist()}
        self._write()

    def _write(self) -> None:
        content = {"identity": self._identity, "stages": self._stages, "seconds": self._seconds}
        write_whole(self._path, json.dumps(content))

    def _read(self) -> tuple[dict[str, Any], dict[str, float]]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            identity, stages = content["identity"], dict(content["stages"])
            seconds = {str(stage): float(spent) for stage, spent in content["seconds"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._unreadable(error) from error
        if identity != self._identity:
            raise JournalError(
                f"{self._path}: belongs to another scenario or other settings; remove it or name another --out"
            )
        return stages, seconds

    def _unreadable(self, reason: object) -> JournalError:
        return JournalError(f"{self._path}: cannot be read ({reason}); remove it or name another --out")
