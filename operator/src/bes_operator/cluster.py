"""What `reconcile` asks of an API server. Only this module knows the kubernetes client.

Every call raises a `bes_operator.errors.ClusterError` when it did not do what was asked, and has a time limit.
"""

from typing import Protocol

from bes_operator.manifest import Apply, Key, Manifest


class Cluster(Protocol):
    """An API server, or a stand-in for it."""

    async def read(self, key: Key) -> Manifest | None:
        """One object; None: there is none."""

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> tuple[Manifest, ...]:
        """All objects of a kind with those labels, in one namespace or (None) in all, read page by page."""

    async def apply(self, step: Apply) -> Manifest:
        """Server-side apply; the object as it is then. A uid in its metadata is a precondition."""

    async def write_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status of an object that is there; the object as it is then."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Conflict if there is one of that name."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """Conflict if it is no longer at ``metadata.resourceVersion``."""

    async def delete(self, key: Key, uid: str) -> None:
        """Delete with what depends on it, in the background. Conflict if another object has taken the name."""
