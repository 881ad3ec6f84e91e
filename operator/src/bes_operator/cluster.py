"""What `reconcile` asks of an API server, and the one implementation of it: only this module knows the client library.

Every call raises a `bes_operator.errors.ClusterError` when it did not do what was asked, and has a time limit.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException

from bes_api.errors import ConfigurationError
from bes_operator.errors import Absent, Busy, ClusterError, Conflict, Denied, Refused, TimedOut, Unavailable
from bes_operator.kinds import KINDS
from bes_operator.manifest import FIELD_MANAGER, Apply, Key, Manifest, key_of

Told = Callable[[str, int], None]
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_BY_STATUS: Mapping[int, type[ClusterError]] = {
    400: Refused,
    401: Denied,
    403: Denied,
    404: Absent,
    405: Refused,
    409: Conflict,
    410: Unavailable,  # a list that took longer than the server remembers: begin anew
    413: Refused,
    415: Refused,
    422: Refused,
    429: Busy,
    504: TimedOut,
}


class Cluster(Protocol):
    """An API server, or a stand-in for it."""

    async def read(self, key: Key) -> Manifest | None:
        """One object; None: there is none."""

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> tuple[Manifest, ...]:
        """All objects of a kind with those labels, in one namespace or (None) in all, read page by page."""

    async def apply(self, step: Apply) -> Manifest:
        """Server-side apply; the object as it is then. A uid in its metadata is a precondition."""

    async def write_status(self, manifest: Manifest) -> Manifest:
        """The whole status of an object that is there, whoever wrote into it; the object as it is then."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Conflict if there is one of that name."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """Conflict if it is no longer at ``metadata.resourceVersion``."""

    async def delete(self, key: Key, uid: str) -> None:
        """Delete with what depends on it, in the background. Conflict if another object has taken the name."""


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server, for the other library that talks to it; files and token as they are now."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    authorization: str | None
    """Value of the header of that name."""
    verify: bool


class ApiServer:
    """The cluster's own. Made by `connect`; used in one event loop."""

    def __init__(self, client: ApiClient, timeout_seconds: float, page_size: int, told: Told) -> None:
        """``told`` hears of every request: its method, and the status of its answer (0: there was none)."""
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._page_size = page_size
        self._told = told

    async def credentials(self) -> Credentials:
        """Fresh ones."""
        using = self._client.configuration
        authorization = await using.get_api_key_with_prefix("BearerToken")
        return Credentials(
            using.host, using.ssl_ca_cert, using.cert_file, using.key_file, authorization, bool(using.verify_ssl)
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def read(self, key: Key) -> Manifest | None:
        """See Cluster."""
        try:
            return await self._call(f"read {key}", "GET", KINDS[key.kind].path(key.namespace, key.name))
        except Absent:
            return None

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> tuple[Manifest, ...]:
        """See Cluster."""
        found, place = KINDS[kind], namespace or "all namespaces"
        query = [("limit", str(self._page_size))] + ([("labelSelector", selector)] if selector else [])
        items: list[Manifest] = []
        following: str | None = None
        while following != "":
            more = [("continue", following)] if following else []
            page = await self._call(f"list {kind} in {place}", "GET", found.path(namespace), [*query, *more])
            typed = {"apiVersion": found.api_version, "kind": kind}  # items of a list carry neither
            items += ({**typed, **item} for item in page.get("items") or ())
            following = (page.get("metadata") or {}).get("continue") or ""
        return tuple(items)

    async def apply(self, step: Apply) -> Manifest:
        """See Cluster."""
        key = key_of(step.manifest)
        query = [("fieldManager", step.field_manager), ("force", str(step.force).lower())]
        path = KINDS[key.kind].path(key.namespace, key.name)
        return await self._call(f"apply {key}", "PATCH", path, query, step.manifest, _APPLY)

    async def write_status(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key = key_of(manifest)
        what, path = f"write the status of {key}", KINDS[key.kind].path(key.namespace, key.name, "status")
        uid = manifest["metadata"]["uid"]
        patch = [  # an apply would leave what others wrote beside it for ever
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": manifest["status"]},
        ]
        try:
            return await self._call(what, "PATCH", path, [("fieldManager", FIELD_MANAGER)], patch, _JSON_PATCH)
        except Refused:
            found = await self.read(key)
            if found is None or found["metadata"]["uid"] != uid:  # the same answer as to a status that is wrong
                raise Conflict(what, "the service is gone, or another one has its name") from None
            raise

    async def create(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key = key_of(manifest)
        query = [("fieldManager", FIELD_MANAGER)]
        return await self._call(f"create {key}", "POST", KINDS[key.kind].path(key.namespace), query, manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """See Cluster."""
        key = key_of(manifest)
        query = [("fieldManager", FIELD_MANAGER)]
        path = KINDS[key.kind].path(key.namespace, key.name)
        return await self._call(f"replace {key}", "PUT", path, query, manifest)

    async def delete(self, key: Key, uid: str) -> None:
        """See Cluster."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",  # a Job's default orphans its pods
            "preconditions": {"uid": uid},
        }
        path = KINDS[key.kind].path(key.namespace, key.name)
        try:
            await self._call(f"delete {key}", "DELETE", path, body=options)
        except Absent:
            return

    async def _call(
        self,
        what: str,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Manifest | Sequence[Manifest] | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        headers = {"Accept": _JSON, "Content-Type": content_type}
        limit = aiohttp.ClientTimeout(total=self._timeout_seconds)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = await self._client.param_serialize(
                    method,
                    path,
                    query_params=list(query),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(*request, _request_timeout=limit)
                content = await response.read()
        except TimeoutError:
            self._told(method, 0)
            raise TimedOut(what, f"no answer within {self._timeout_seconds:g} s") from None
        except (aiohttp.ClientError, ApiException, OSError) as error:
            self._told(method, 0)
            raise Unavailable(what, f"no connection: {error or type(error).__name__}") from None
        self._told(method, response.status)
        return _answer(what, response.status, response.headers, content)


def _answer(what: str, status: int, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if 200 <= status < 300:
        if not isinstance(document, dict):
            raise Unavailable(what, f"the API server's answer is no JSON object ({len(content)} bytes)")
        return document
    told = document.get("message") if isinstance(document, dict) else None
    error = _BY_STATUS.get(status, Unavailable)
    if status == 422 and _another(document):
        error = Conflict
    if status == 403 and told and _by_admission(document):
        error = Refused
    raise error(what, f"{told or 'no message'} (HTTP {status})", _seconds(headers.get("Retry-After")))


def _another(document: Any) -> bool:
    """Whether the object has another uid than the one that was meant: to server-side apply an invalid field."""
    details = document.get("details") if isinstance(document, dict) else None
    causes = (details or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _by_admission(document: Any) -> bool:
    """Whether a quota or a policy forbids it, not a lack of rights; a namespace that ends is no news either."""
    causes = (document.get("details") or {}).get("causes") or ()
    ends = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
    message = document["message"].lower()
    return " is forbidden: " in message and 'user "' not in message and not ends


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None


async def connect(kubeconfig: Path | None, timeout_seconds: float, page_size: int, told: Told) -> ApiServer:
    """Find credentials: a file, else the pod's service account, else KUBECONFIG. ConfigurationError: there are none."""
    configuration = Configuration()
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(configuration)
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            await config.load_kube_config(file, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        mend = "run in a pod with a service account, or name a file by --kubeconfig or KUBECONFIG"
        raise ConfigurationError(f"no credentials for the API server: {error}; {mend}") from None
    return ApiServer(ApiClient(configuration), timeout_seconds, page_size, told)
