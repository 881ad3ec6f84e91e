"""Looks at a folder (also one that kubelet mounts) or file again and again, and tells each whole new state once.

Looking blocks on the disk and is done in a thread. It costs a stat per file while nothing changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bes_api.config_map import data_digest, is_mounted, read_files, stamp_of
from bes_api.errors import ConfigurationError


@dataclass(frozen=True)
class Snapshot:
    """What a folder held at one moment. ``digest`` is None where there was nothing, or nothing that could be read."""

    source: str
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    digest: str | None = None
    problem: str = ""
    """Why the files could not be read."""


def take(path: Path, limit: int) -> Snapshot:
    """Read what is at ``path`` now; files of more than ``limit`` bytes together are a problem."""
    try:
        files = read_files(path, limit)
    except ConfigurationError as error:
        return Snapshot(str(path), problem=str(error))
    return Snapshot(str(path), MappingProxyType(files), data_digest(files) if files else None)


class Watched:
    """One path. A plain folder's state is told only when two looks have met it: files are copied one by one."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.changing = False
        """Whether the last look met something new that has yet to be confirmed by another."""
        self._limit = limit
        self._stamp: tuple[object, ...] | None = None
        self._met: tuple[str | None, str] | None = None
        self._told: tuple[str | None, str] | None = None

    def first(self) -> Snapshot:
        """What is there now, whole or not."""
        found = take(self.path, self._limit)
        self._met = self._told = (found.digest, found.problem)
        return found

    def look(self) -> Snapshot | None:
        """What is there now, if that is new and holds still; else None."""
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            self.changing = False
            return None
        found = take(self.path, self._limit)
        state = (found.digest, found.problem)
        if state != self._met and not is_mounted(self.path):
            self._met = state
            self.changing = True
            return None
        # Taken before the reading, and the same was read once before: whatever is written later has another stamp.
        self._met, self._stamp, self.changing = state, stamp, False
        if state == self._told:
            return None
        self._told = state
        return found
