"""The campaign's own eyes and hands: it asks the real API server, past the proxy."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import yaml

from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.control_plane import ControlPlane
from bes_lab.cluster.fault_proxy import client_context
from bes_lab.errors import ClusterError
from bes_operator.kinds import CHILD_KINDS, KINDS, SERVICE_KIND
from bes_operator.manifest import Key, Manifest, key_of

SERVICE = "opt"
_SAMPLE = "examples/kubernetes/opt-emulated.yaml"
_CRD = "crds/besteffortservices.yaml"
_NOT_OURS = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
"""What the controller manager puts into every namespace."""
_OTHER_MANAGERS = frozenset({"kube-controller-manager"})
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Asking:
    """One session with the API server. ClusterError: an answer that nobody expects of a well one."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def call(self, method: str, path: str, body: Manifest | None = None) -> dict[str, Any] | None:
        """The answer; None where there is no such object."""
        patch = "application/apply-patch+yaml" if method == "PATCH" and "?" in path else "application/merge-patch+json"
        headers = {"Content-Type": patch if method == "PATCH" else "application/json"}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            document: dict[str, Any] = await answer.json()
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise ClusterError(f"{method} {path}: HTTP {answer.status}: {document.get('message')}")
        return document

    async def apply(self, manifest: Manifest, path: str) -> None:
        """Server-side, as a person would."""
        await self.call("PATCH", f"{path}?fieldManager=person&force=true", manifest)

    async def define(self) -> None:
        """The resource, and wait until it is served."""
        manifest = yaml.safe_load((checkout() / _CRD).read_text(encoding="utf-8"))
        path = f"{_DEFINITIONS}/{manifest['metadata']['name']}"
        await self.apply(manifest, path)

        async def served() -> bool:
            conditions = ((await self.call("GET", path) or {}).get("status") or {}).get("conditions") or ()
            return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

        await until(served, "the resource is served")

    async def make_namespace(self, name: str) -> None:
        """A new one."""
        await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def apply_service(self, namespace: str, routers: int | None = None) -> None:
        """The sample with emulated engines: four Deployments, a training Job and what they need."""
        manifest = yaml.safe_load((checkout() / _SAMPLE).read_text(encoding="utf-8"))
        if routers is not None:
            manifest["spec"]["router"]["replicas"] = routers
        await self.apply(manifest, KINDS[SERVICE_KIND].path(namespace, SERVICE))

    async def service(self, namespace: str) -> dict[str, Any]:
        """As it is stored; empty where it is not."""
        return await self.call("GET", KINDS[SERVICE_KIND].path(namespace, SERVICE)) or {}

    async def uid(self, namespace: str, kind: str, name: str) -> str:
        """Of one object; empty where there is none."""
        found = await self.call("GET", KINDS[kind].path(namespace, name))
        return "" if found is None else str(found["metadata"]["uid"])

    async def delete_service(self, namespace: str) -> None:
        """What it owns goes with it."""
        await self.delete(namespace, SERVICE_KIND, SERVICE)

    async def delete(self, namespace: str, kind: str, name: str) -> None:
        """In the background; what is not there is no matter."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        await self.call("DELETE", KINDS[kind].path(namespace, name), options)

    async def label(self, namespace: str, kind: str, name: str, value: str) -> None:
        """Touch an object in a way that nobody minds."""
        body = {"metadata": {"labels": {"example.com/touched": value}}}
        await self.call("PATCH", KINDS[kind].path(namespace, name), body)

    async def children(self, namespace: str) -> dict[Key, dict[str, Any]]:
        """Every object in a namespace of a kind that services own, whoever made it."""
        found = {}
        for kind in CHILD_KINDS:
            listed = await self.call("GET", KINDS[kind].path(namespace))
            for item in (listed or {}).get("items") or ():
                whole = {**item, "kind": kind, "apiVersion": KINDS[kind].api_version}
                if (kind, item["metadata"]["name"]) not in _NOT_OURS:
                    found[key_of(whole)] = whole
        return found


@asynccontextmanager
async def asking(plane: ControlPlane) -> AsyncIterator[Asking]:
    """As the cluster's administrator."""
    connector = aiohttp.TCPConnector(ssl=client_context(plane), limit=8)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        yield Asking(session, plane.url)


def canonical(namespace: str, children: Mapping[Key, Manifest]) -> dict[str, str]:
    """What must be the same however it came to be: content and owners, without what differs from time to time."""
    return {f"{key.kind}/{key.name}": _content(namespace, manifest) for key, manifest in children.items()}


def conditions(service: Manifest) -> dict[str, str]:
    """Status and reason of each, once they are about the service as it is now; empty before."""
    status = service.get("status") or {}
    if status.get("observedGeneration") != (service.get("metadata") or {}).get("generation"):
        return {}
    return {each["type"]: f"{each['status']} {each['reason']}" for each in status.get("conditions") or ()}


def orphans(uid: str, children: Mapping[Key, Manifest]) -> list[str]:
    """Objects that would outlive the service."""
    return [
        str(key)
        for key, manifest in children.items()
        if not any(owner["uid"] == uid for owner in manifest["metadata"].get("ownerReferences") or ())
    ]


def _content(namespace: str, manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    kept = {name: metadata.get(name) for name in ("labels", "annotations")}
    owners = [{**owner, "uid": ""} for owner in metadata.get("ownerReferences") or ()]
    managers = sorted(
        {each["manager"] for each in metadata.get("managedFields") or () if "controller" not in each["manager"]}
    )
    body = {name: value for name, value in manifest.items() if name not in {"metadata", "status"}}
    if manifest["kind"] == "Secret":
        body["data"] = {name: len(value) for name, value in (manifest.get("data") or {}).items()}
    if manifest["kind"] == "Service":
        addresses = {"clusterIP", "clusterIPs"}
        body["spec"] = {name: value for name, value in manifest["spec"].items() if name not in addresses}
    said = json.dumps([kept, owners, sorted(managers), body], sort_keys=True)
    for own in (namespace, metadata["uid"]):  # a Job's uid is in its labels
        said = said.replace(own, "-")
    return _INSTANT.sub("-", said)


async def until(holds: Callable[[], Any], what: str, limit_seconds: float = 120.0) -> float:
    """Wait until ``await holds()`` is true; the seconds that it took. Raises ClusterError when it takes too long."""
    began = time.monotonic()
    while not await holds():
        if time.monotonic() - began > limit_seconds:
            raise ClusterError(f"gave up after {limit_seconds:g} s of waiting until {what}")
        await asyncio.sleep(0.2)
    return time.monotonic() - began
