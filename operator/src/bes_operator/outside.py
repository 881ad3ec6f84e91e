"""Objects that services name and others own (profiles, Secrets, imported artifacts): read by name, never written.

They are not watched, because that would take rights on everything of their kind.
"""

import asyncio
from collections.abc import Iterable

from bes_operator.cluster import Cluster
from bes_operator.manifest import Key, Manifest


class Outside:
    """Remembers for a while what was there; what was not is asked for each time."""

    def __init__(self, cluster: Cluster, keep_seconds: float) -> None:
        self._cluster = cluster
        self._keep_seconds = keep_seconds
        self._known: dict[Key, tuple[float, Manifest]] = {}

    async def read(self, keys: Iterable[Key]) -> dict[Key, Manifest]:
        """Those that are there. A Secret's content is not kept: that it exists is all that matters here."""
        now, found = _now(), {}
        self._known = {key: known for key, known in self._known.items() if now - known[0] < self._keep_seconds}
        for key in keys:
            known = self._known.get(key)
            manifest = known[1] if known else await self._cluster.read(key)
            if manifest is not None:
                kept = _without_content(manifest) if key.kind == "Secret" else manifest
                self._known.setdefault(key, (now, kept))
                found[key] = kept
        return found

    def forget(self, keys: Iterable[Key]) -> None:
        """Ask for them anew the next time: something is wrong with one, and may be mended."""
        for key in keys:
            self._known.pop(key, None)


def _without_content(manifest: Manifest) -> Manifest:
    return {name: value for name, value in manifest.items() if name not in {"data", "stringData"}}


def _now() -> float:
    return asyncio.get_running_loop().time()
