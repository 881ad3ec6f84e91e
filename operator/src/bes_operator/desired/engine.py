"""A model's engines: Deployment and Service, whatever the program in the container."""

from collections.abc import Mapping
from typing import Any

from bes_api.resolved_engine import ResolvedEngine, engine_of
from bes_api.scenario import Scenario
from bes_api.service import EngineType, Model, written
from bes_operator.desired.child import child
from bes_operator.desired.emulated_engine import emulated_engine_part
from bes_operator.desired.engine_part import EnginePart
from bes_operator.desired.pods import HTTP, PROPAGATION_SECONDS, SECCOMP, shaped, stop_after
from bes_operator.desired.real_engine import real_engine_part
from bes_operator.desired.request import Desired
from bes_operator.labels import Component, child_labels, selector
from bes_operator.manifest import Manifest
from bes_operator.names import engine_name

SERVICE_PORT = 80
KEPT_REVISIONS = 3
_ORDINARY = ("cpu", "memory", "ephemeral-storage", "hugepages-")
_SURGE = {"maxSurge": 1, "maxUnavailable": 0}
_NO_SPARE = {"maxSurge": 0, "maxUnavailable": 1}


def engine_service(request: Desired, model: Model) -> Manifest:
    """What EndpointSlices are made for; routers talk to the pods behind it."""
    service = request.service.name
    return child(request, "Service", engine_name(service, model.name), Component.ENGINE, model.name) | {
        "spec": {
            "type": "ClusterIP",  # stated, so that an edit heals: only the routers' Service is for others to expose
            "selector": dict(selector(service, Component.ENGINE, model.name)),
            "ports": [{"name": HTTP, "port": SERVICE_PORT, "targetPort": HTTP, "protocol": "TCP"}],
        }
    }


def engine_deployment(request: Desired, model: Model, scenario: Scenario) -> Manifest:
    """``replicas`` stays out where somebody else scales."""
    engine = engine_of(request.service.spec, model)
    part_of = emulated_engine_part if engine.type is EngineType.EMULATED else real_engine_part
    part = part_of(request, model, engine, scenario)
    name = engine_name(request.service.name, model.name)
    spec: dict[str, Any] = {} if model.replicas is None else {"replicas": model.replicas}
    spec |= {
        "selector": {"matchLabels": dict(selector(request.service.name, Component.ENGINE, model.name))},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": dict(_room_for_rollout(model, engine))},
        "revisionHistoryLimit": KEPT_REVISIONS,
        "progressDeadlineSeconds": part.start_seconds + 10 * 60,
        "template": _template(request, model, engine, part),
    }
    return child(request, "Deployment", name, Component.ENGINE, model.name) | {"spec": spec}


def _room_for_rollout(model: Model, engine: ResolvedEngine) -> Mapping[str, int]:
    """There is no spare GPU: a pod leaves before its successor comes, while traffic bends to other models."""
    return _NO_SPARE if engine.type is not EngineType.EMULATED or _claims_devices(model) else _SURGE


def _claims_devices(model: Model) -> bool:
    resources = model.resources
    if resources is None:
        return bool(model.resource_claims)
    asked = {**(resources.requests or {}), **(resources.limits or {})}
    return bool(resources.claims or model.resource_claims) or any(not name.startswith(_ORDINARY) for name in asked)


def _template(request: Desired, model: Model, engine: ResolvedEngine, part: EnginePart) -> dict[str, Any]:
    container = {
        "name": "engine",
        **part.container,
        "ports": [{"name": HTTP, "containerPort": part.port, "protocol": "TCP"}],
        **stop_after(PROPAGATION_SECONDS + part.drain_seconds),
    }
    if model.resources is not None and (resources := written(model.resources)):
        container["resources"] = resources
    spec: dict[str, Any] = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PROPAGATION_SECONDS + part.drain_seconds + part.stop_seconds,
        "securityContext": dict(SECCOMP),
        **part.pod,
    }
    if model.resource_claims:
        spec["resourceClaims"] = [written(claim) for claim in model.resource_claims]
    metadata: dict[str, Any] = {"labels": dict(child_labels(request.service.name, Component.ENGINE, model.name))}
    if part.annotations:
        metadata["annotations"] = dict(part.annotations)
    return shaped({"metadata": metadata, "spec": spec}, engine.pod)
