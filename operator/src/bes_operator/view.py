"""What is seen of all services together: routers that may be asked, their last words, trainings. From the cache."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from bes_operator.desired.access import TOKEN_KEY
from bes_operator.desired.configuration import ADMIN_PORT
from bes_operator.kinds import SERVICE_KIND
from bes_operator.labels import COMPONENT, SERVICE, Component
from bes_operator.live import SERVICE_OF_SLICE
from bes_operator.manifest import Key, Manifest
from bes_operator.names import admin_secret_name, router_name
from bes_operator.observed import Observed
from bes_operator.policy.seen import RouterSeen
from bes_operator.routers import Router, Routers, Targets

PAUSED = "besteffort.dev/paused"


def is_paused(stored: Manifest) -> bool:
    """Whether the resource asks to be left as it is."""
    return bool((stored["metadata"].get("annotations") or {}).get(PAUSED) == "true")


def with_component(children: Mapping[Key, Manifest], kind: str, component: Component) -> tuple[Manifest, ...]:
    """Children of a kind that are there for that."""
    return tuple(each for key, each in children.items() if key.kind == kind and _label(each, COMPONENT) == component)


def trainings(observed: Observed) -> tuple[Manifest, ...]:
    """Every training Job; those of paused services that wait for a turn are left out, or all would wait for them."""
    found = []
    for key in observed.all_of("Job"):
        job = observed.get(key)
        if job is None or _label(job, COMPONENT) != Component.TRAINING:
            continue
        service = observed.get(Key(SERVICE_KIND, key.namespace, str(_label(job, SERVICE))))
        waits = (job.get("spec") or {}).get("suspend") is True
        if not (waits and service is not None and is_paused(service)):
            found.append(job)
    return tuple(found)


def trainings_waiting(observed: Observed) -> int:
    """How many of them are suspended."""
    return sum((job.get("spec") or {}).get("suspend") is True for job in trainings(observed))


def admin_token(children: Mapping[Key, Manifest], namespace: str, service: str) -> str | None:
    """The token that the routers have; None: there is none yet, or it is none."""
    secret = children.get(Key("Secret", namespace, admin_secret_name(service)))
    try:
        token = base64.b64decode(((secret or {}).get("data") or {}).get(TOKEN_KEY) or "", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return token if token.isprintable() and token else None


def ready_routers(children: Mapping[Key, Manifest], namespace: str, service: str) -> tuple[Router, ...]:
    """The pods behind the routers' Service that Kubernetes calls ready."""
    name = router_name(service)
    slices = (each for key, each in children.items() if key.kind == "EndpointSlice" and key.namespace == namespace)
    found = {
        router.name: router
        for each in slices
        if _label(each, SERVICE_OF_SLICE) == name
        for router in _routers(each.get("endpoints") or ())
    }
    return tuple(found[pod] for pod in sorted(found))


def _routers(endpoints: Iterable[Mapping[str, Any]]) -> Iterable[Router]:
    for endpoint in endpoints:
        addresses, pod = endpoint.get("addresses") or (), (endpoint.get("targetRef") or {}).get("name")
        if addresses and pod and (endpoint.get("conditions") or {}).get("ready") is not False:
            yield Router(pod, addresses[0], ADMIN_PORT)


def targets(observed: Observed) -> dict[Key, Targets]:
    """Whom to ask, for every service that has routers and a token."""
    found = {}
    for service in observed.services():
        children = observed.of_service(service)
        token = admin_token(children, service.namespace, service.name)
        routers = ready_routers(children, service.namespace, service.name)
        if token is not None and routers:
            found[service] = Targets(routers, token)
    return found


def routers_seen(routers: Routers, service: Key, children: Mapping[Key, Manifest]) -> tuple[RouterSeen, ...]:
    """The ready routers with what they last said."""
    seen = []
    for router in ready_routers(children, service.namespace, service.name):
        last = routers.last(service, router.name)
        seen.append(RouterSeen(router.name) if last is None else RouterSeen(router.name, *last))
    return tuple(seen)


def _label(manifest: Manifest, name: str) -> str | None:
    return (manifest["metadata"].get("labels") or {}).get(name)
