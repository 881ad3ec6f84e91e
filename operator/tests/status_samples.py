"""A service that is all right, as the API server and its routers would show it; tests break one thing at a time."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from desired_samples import EMULATED, SETTINGS, request_for, service_in

from bes_api.conditions import ConditionStatus, Reason
from bes_api.config_map import data_digest, files_in
from bes_api.router_config import DeliveredPolicy
from bes_api.router_status import RouterStatus
from bes_api.service_status import PolicyStatus
from bes_operator.desired.objects import desired_objects
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.names import engine_name, router_name
from bes_operator.policy.seen import PolicyPart, PolicyPlan, RouterSeen
from bes_operator.seen import Seen

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
WANTED = desired_objects(request_for(EMULATED))
ROUTER = Key("Deployment", "apps", router_name("demo"))
SMALL = Key("Deployment", "apps", engine_name("demo", "opt-125m"))
LARGE = Key("Deployment", "apps", engine_name("demo", "opt-1.3b"))
CONFIGURATION = data_digest(
    files_in(next(m for m in WANTED.manifests if key_of(m) == Key("ConfigMap", "apps", router_name("demo"))))
)
PLAN = PolicyPlan(
    part=PolicyPart(DeliveredPolicy()),
    steps=(),
    deletions=(),
    kept=frozenset(),
    status=PolicyStatus(),
    ready=ConditionStatus.TRUE,
    reason=Reason.RULE_ASKED,
    message="as asked",
)


def deployment(key: Key, **status: Any) -> Manifest:
    """A finished rollout of what is wanted, with ``status`` changed."""
    intent = next(manifest for manifest in WANTED.manifests if key_of(manifest) == key)
    replicas = intent["spec"]["replicas"]
    done = {"observedGeneration": 3, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas}
    return {**intent, "metadata": {**intent["metadata"], "generation": 3}, "status": done | status}


def slice_of(key: Key, *ready: bool) -> tuple[Key, Manifest]:
    """The endpoints of a Deployment's Service; its labels are the Service's."""
    service = next(m for m in WANTED.manifests if key_of(m) == Key("Service", key.namespace, key.name))
    name = f"{key.name}-abcde"
    labels = {**service["metadata"]["labels"], "kubernetes.io/service-name": key.name}
    endpoints = [
        {"addresses": [f"10.0.{sum(map(ord, key.name)) % 250}.{number}"], "conditions": {"ready": each}}
        for number, each in enumerate(ready)
    ]
    manifest = {"kind": "EndpointSlice", "metadata": {"name": name, "namespace": key.namespace, "labels": labels}}
    return Key("EndpointSlice", key.namespace, name), {**manifest, "endpoints": endpoints}


def router_status(**changes: Any) -> RouterStatus:
    values: dict[str, Any] = {
        "service": "demo",
        "boot_id": "a",
        "started_at": 0.0,
        "uptime_seconds": 100.0,
        "ready": True,
        "draining": False,
        "configuration": {"digest": CONFIGURATION},
        "policy": {"asked": "Delivered", "name": "DeadlineAware", "fallback": True, "reason": "absent", "failures": 0},
        "tasks": [],
        "errors": {},
        "load": {"source": "prometheus", "known": 4, "listed": 4, "share": 0.5},
        "discovery": {"source": "endpointslices"},
        "in_flight": 0,
        "connections": 0,
        "backends_ready": 4,
        "backends_listed": 4,
        "versions": {},
    }
    return RouterStatus.model_validate(values | changes)


def seen(**changes: Any) -> Seen:
    """All is well, but for ``changes``."""
    live = {key: deployment(key) for key in (ROUTER, SMALL, LARGE)}
    live |= dict([slice_of(ROUTER, True, True), slice_of(SMALL, True, True), slice_of(LARGE, True, True)])
    values: dict[str, Any] = {
        "name": "demo",
        "namespace": "apps",
        "generation": 7,
        "settings": SETTINGS,
        "now": NOW,
        "service": service_in(EMULATED),
        "live": live,
        "wanted": WANTED,
        "policy": PLAN,
        "routers": (RouterSeen("demo-router-1", router_status(), 5.0),),
    }
    return Seen(**(values | changes))


def with_live(**changes: Any) -> Callable[[Mapping[Key, Manifest | None]], Seen]:
    """``seen`` with objects replaced (None: gone)."""

    def replaced(objects: Mapping[Key, Manifest | None]) -> Seen:
        before = seen(**changes)
        live = {**before.live, **objects}
        return replace(before, live={key: manifest for key, manifest in live.items() if manifest is not None})

    return replaced


def with_router(age_seconds: float = 5.0, **changes: Any) -> Seen:
    """``seen`` with one router that says something else."""
    return seen(routers=(RouterSeen("demo-router-1", router_status(**changes), age_seconds),))
