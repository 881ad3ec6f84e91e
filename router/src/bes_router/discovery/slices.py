"""EndpointSlices (discovery.k8s.io/v1) as the API server writes them, read with suspicion, and the pods in them.

Of an endpoint's conditions an unknown one counts as the API says: ready, serving, not terminating.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

SERVICE_LABEL = "kubernetes.io/service-name"
_FAMILIES = ("IPv4", "IPv6")  # FQDN, the third that there was, names no pod


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Metadata(_Said):
    """Of an object or of a list."""

    name: str = ""
    version: str = Field(alias="resourceVersion", min_length=1)
    continuation: str = Field(default="", alias="continue")
    labels: dict[str, str] | None = None


class _Conditions(_Said):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Reference(_Said):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class _Endpoint(_Said):
    addresses: tuple[str, ...]
    conditions: _Conditions | None = None
    node: str | None = Field(default=None, alias="nodeName")
    target: _Reference | None = Field(default=None, alias="targetRef")


class _Port(_Said):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(_Said):
    """One slice: some of the endpoints of one Service."""

    metadata: Metadata
    family: str = Field(alias="addressType")
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None

    @property
    def service(self) -> str:
        """The Service's name; empty where no label says it."""
        return (self.metadata.labels or {}).get(SERVICE_LABEL, "")


class SliceList(_Said):
    """One page of a LIST."""

    metadata: Metadata
    items: tuple[EndpointSlice, ...] | None = None


@dataclass(frozen=True)
class Pod:
    """One endpoint that may get requests, now (``ready``) or later."""

    key: str
    """Tells this pod from every other that ever was: its uid, else its address."""
    name: str
    """The pod's; empty: the endpoint is no pod."""
    address: str
    port: int
    node: str | None
    ready: bool


def pods_of(slices: Iterable[EndpointSlice], ports: Mapping[str, str]) -> dict[str, tuple[Pod, ...]]:
    """Per Service of ``ports`` (its port's name) the pods that are not terminating, in the order of their names.

    An endpoint may stand in several slices, while the API server moves it or once per address family: it is one pod,
    at its IPv4 address where it has one, and ready where any of them says so.
    """
    found: dict[str, dict[str, Pod]] = {service: {} for service in ports}
    for each in sorted(slices, key=lambda slice_: (slice_.family, slice_.metadata.name)):
        pods = found.get(each.service)
        if pods is None or each.family not in _FAMILIES:
            continue
        port = _port_of(each, ports[each.service])
        for endpoint in each.endpoints or ():
            pod = None if port is None else _pod_of(endpoint, port)
            if pod is not None:
                before = pods.get(pod.key, pod)
                pods[pod.key] = replace(before, ready=before.ready or pod.ready)
    return {
        service: tuple(sorted(pods.values(), key=lambda pod: (pod.name, pod.key))) for service, pods in found.items()
    }


def _port_of(each: EndpointSlice, name: str) -> int | None:
    for port in each.ports or ():
        if port.name == name and port.protocol in {None, "TCP"} and port.port is not None and 0 < port.port < 65536:
            return port.port
    return None


def _pod_of(endpoint: _Endpoint, port: int) -> Pod | None:
    conditions = endpoint.conditions or _Conditions()
    address = endpoint.addresses[0] if endpoint.addresses else ""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    if conditions.terminating:
        return None
    target = endpoint.target
    pod = target if target is not None and target.kind in {None, "Pod"} else _Reference()
    ready = conditions.ready is not False and conditions.serving is not False
    return Pod(pod.uid or pod.name or f"{address}:{port}", pod.name or "", address, port, endpoint.node, ready)
