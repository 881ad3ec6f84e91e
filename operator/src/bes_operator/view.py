"""What is seen of all services together: routers that may be asked, their last words, trainings. From the cache."""

import base64
import binascii
from collections.abc import Iterator, Mapping

from bes_api.conditions import ConditionType, Reason
from bes_api.config_map import data_digest, files_in
from bes_api.errors import ConfigurationError
from bes_operator.desired.access import TOKEN_KEY
from bes_operator.desired.configuration import ADMIN_PORT
from bes_operator.kinds import SERVICE_KIND
from bes_operator.labels import COMPONENT, SERVICE, Component
from bes_operator.live import SERVICE_OF_SLICE
from bes_operator.manifest import Key, Manifest
from bes_operator.names import admin_secret_name, router_name
from bes_operator.observed import Observed, service_of
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


def admin_token(children: Mapping[Key, Manifest], service: Key) -> str | None:
    """The token that the routers have; None: there is none yet, or it is none."""
    secret = children.get(Key("Secret", service.namespace, admin_secret_name(service.name)))
    try:
        token = base64.b64decode(((secret or {}).get("data") or {}).get(TOKEN_KEY) or "", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return token if token.isprintable() and token else None


def targets(observed: Observed) -> dict[Key, Targets]:
    """Whom to ask, for every service that has routers and a token."""
    routers: dict[Key, dict[str, Router]] = {}
    for key in observed.all_of("EndpointSlice"):
        found = observed.get(key)
        service = None if found is None else service_of(found)
        if found is not None and service is not None:
            routers.setdefault(service, {}).update((each.name, each) for each in _ready(found, service.name))
    asked = {}
    for service, ready in routers.items():
        token = admin_token(observed.of_service(service), service) if ready else None
        if token is not None:
            delivered = _configuration(observed, service), _is_delivering(observed, service)
            asked[service] = Targets(tuple(ready.values()), token, *delivered)
    return asked


def _configuration(observed: Observed, service: Key) -> str | None:
    """Digest of what the routers find in their folder, sooner or later."""
    found = observed.get(Key("ConfigMap", service.namespace, router_name(service.name)))
    try:
        return None if found is None else data_digest(files_in(found))
    except ConfigurationError:
        return None


def _is_delivering(observed: Observed, service: Key) -> bool:
    """Whether the status waits for routers to take a policy."""
    conditions = ((observed.get(service) or {}).get("status") or {}).get("conditions") or ()
    waits = (ConditionType.POLICY_READY, Reason.DELIVERING)
    return any((each.get("type"), each.get("reason")) == waits for each in conditions)


def _ready(found: Manifest, service: str) -> Iterator[Router]:
    """The pods behind the routers' Service that Kubernetes calls ready."""
    if _label(found, SERVICE_OF_SLICE) != router_name(service):
        return
    for endpoint in found.get("endpoints") or ():
        addresses, pod = endpoint.get("addresses") or (), (endpoint.get("targetRef") or {}).get("name")
        if addresses and pod and (endpoint.get("conditions") or {}).get("ready") is not False:
            yield Router(pod, addresses[0], ADMIN_PORT)


def routers_seen(routers: Routers, service: Key, children: Mapping[Key, Manifest]) -> tuple[RouterSeen, ...]:
    """The ready routers with what they last said."""
    slices = (each for key, each in children.items() if key.kind == "EndpointSlice")
    names = sorted({router.name for each in slices for router in _ready(each, service.name)})
    last = {name: routers.last(service, name) for name in names}
    return tuple(RouterSeen(name) if told is None else RouterSeen(name, *told) for name, told in last.items())


def _label(manifest: Manifest, name: str) -> str | None:
    return (manifest["metadata"].get("labels") or {}).get(name)
