"""What lies in the cluster, as far as this operator knows: lists replace it, events and own writes refresh an entry.

Events alone would keep ghosts (a watch that begins anew never reports what vanished meanwhile), so kinds are listed at
the start, after each restart of their watch, and at each resync.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bes_operator.cluster import Cluster
from bes_operator.kinds import CHILD_KINDS, SERVICE_KIND, WITNESS_KINDS
from bes_operator.labels import CHILDREN_SELECTOR, SERVICE
from bes_operator.manifest import Key, Manifest, key_of

OBSERVED_KINDS = (SERVICE_KIND, *CHILD_KINDS, *WITNESS_KINDS)


def selector_of(kind: str) -> str:
    """Which objects of a kind are listed and watched."""
    return "" if kind == SERVICE_KIND else CHILDREN_SELECTOR


def service_of(manifest: Manifest) -> Key | None:
    """The service that an object is about; None: none of ours."""
    key = key_of(manifest)
    if key.kind == SERVICE_KIND:
        return key
    name = (manifest["metadata"].get("labels") or {}).get(SERVICE)
    return Key(SERVICE_KIND, key.namespace, name) if name else None


class Observed:
    """A copy of every object that matters, found by its service. Used in one event loop."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str]) -> None:
        """``namespaces``: those to look at; none: all."""
        self._cluster = cluster
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._objects: dict[str, dict[Key, Manifest]] = {kind: {} for kind in OBSERVED_KINDS}
        self._of_service: defaultdict[Key, set[Key]] = defaultdict(set)
        self._touched: dict[str, dict[Key, Manifest | None]] = {}
        """What was seen while a list of its kind was on its way; None: that it is gone."""
        self._listing: dict[str, asyncio.Lock] = {kind: asyncio.Lock() for kind in OBSERVED_KINDS}

    async def list_all(self) -> None:
        """Every kind anew. A ClusterError leaves what is known as it was, or half of the kinds newer."""
        for kind in OBSERVED_KINDS:
            await self.list_kind(kind)

    async def list_kind(self, kind: str) -> set[Key]:
        """One kind anew; which services have an object that appeared, changed or vanished unnoticed."""
        async with self._listing[kind]:
            touched = self._touched[kind] = {}
            try:
                listed = [
                    item
                    for namespace in self._namespaces
                    for item in await self._cluster.list(kind, namespace, selector_of(kind))
                ]
            finally:
                del self._touched[kind]
        return self._replace(kind, listed, touched)

    def _replace(self, kind: str, listed: Iterable[Manifest], touched: Mapping[Key, Manifest | None]) -> set[Key]:
        found = {key_of(item): item for item in listed}
        for key, seen in touched.items():
            there = found.get(key)
            if seen is None:
                found.pop(key, None)
            elif there is None or _is_older(there, seen):
                found[key] = seen
        known = dict(self._objects[kind])
        changed = {key for key in known.keys() | found.keys() if _version(known.get(key)) != _version(found.get(key))}
        services = {
            service for key in changed for service in map(_service, (known.get(key), found.get(key))) if service
        }
        for key in known.keys() - found.keys():
            self._drop(key)
        for item in found.values():
            self._put(item)
        return services

    def saw(self, manifest: Manifest, gone: bool = False) -> bool:
        """Take in an event or the answer to an own write. False: no newer than what is known, and passed over."""
        key = key_of(manifest)
        known = self.get(key)
        if known is not None and (_is_older(manifest, known) or (not gone and _version(manifest) == _version(known))):
            return False
        if gone and known is not None and known["metadata"]["uid"] != manifest["metadata"]["uid"]:
            return False
        if key.kind in self._touched:
            self._touched[key.kind][key] = None if gone else manifest
        if gone:
            self._drop(key)
        else:
            self._put(manifest)
        return True

    async def look_again(self, key: Key) -> Manifest | None:
        """Ask the API server for one object and believe it; a stranger's is known from then on as none of ours."""
        found = await self._cluster.read(key)
        if found is None:
            self._drop(key)
        elif service_of(found) is not None:
            self._put(found)
        else:
            self._drop(key)
        return found

    def deleted(self, key: Key) -> None:
        """Own work: it is not there any more, or will not be for long."""
        if key.kind in self._touched:
            self._touched[key.kind][key] = None
        self._drop(key)

    def get(self, key: Key) -> Manifest | None:
        """One object as last seen."""
        return self._objects.get(key.kind, {}).get(key)

    def services(self) -> tuple[Key, ...]:
        """Every service."""
        return self.all_of(SERVICE_KIND)

    def all_of(self, kind: str) -> tuple[Key, ...]:
        """Every object of a kind."""
        return tuple(self._objects[kind])

    def of_service(self, service: Key) -> dict[Key, Manifest]:
        """What carries a service's label in its namespace, the service itself left out."""
        return {
            key: self._objects[key.kind][key] for key in sorted(self._of_service.get(service, ())) if key != service
        }

    def _put(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        self._drop(key)
        self._objects[key.kind][key] = manifest
        service = service_of(manifest)
        if service is not None:
            self._of_service[service].add(key)

    def _drop(self, key: Key) -> None:
        known = self._objects[key.kind].pop(key, None)
        service = _service(known)
        if service is not None:
            self._of_service[service].discard(key)
            if not self._of_service[service]:
                del self._of_service[service]


def _service(manifest: Manifest | None) -> Key | None:
    return None if manifest is None else service_of(manifest)


def _version(manifest: Manifest | None) -> str | None:
    return None if manifest is None else manifest["metadata"].get("resourceVersion")


def _is_older(one: Manifest, other: Manifest) -> bool:
    """Whether ``one`` was the state before ``other`` was; resourceVersions grow, over all objects of a kind."""
    versions = (_version(one) or "", _version(other) or "")
    return all(version.isdigit() for version in versions) and int(versions[0]) < int(versions[1])
