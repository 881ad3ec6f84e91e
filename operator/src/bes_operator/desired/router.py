"""The routers: Deployment, Service and PodDisruptionBudget."""

from typing import Any

from bes_api.engines.facts import Probe
from bes_api.service import written
from bes_operator.desired.access import TOKEN_KEY
from bes_operator.desired.child import child
from bes_operator.desired.configuration import ADMIN_PORT, CLIENT_PORT, LIMITS
from bes_operator.desired.load import LoadPart
from bes_operator.desired.pods import (
    ADMIN,
    HTTP,
    RESTRICTED,
    RESTRICTED_POD,
    folder,
    http_probe,
    own_image,
    pull_secrets,
    shaped,
)
from bes_operator.desired.request import Desired
from bes_operator.labels import Component, child_labels, selector
from bes_operator.manifest import Manifest
from bes_operator.names import active_name, admin_secret_name, candidate_name, router_name

FOLDERS = "/etc/best-effort"
KEPT_REVISIONS = 3
START_SECONDS = 120
STOP_SECONDS = 10
"""From when the last request was cut off until the process is killed."""
_HEALTHY = "/healthz"
_READY = "/readyz"


def router_service(request: Desired) -> Manifest:
    """Where clients send requests. The admin port stays out: whoever asks it means one pod."""
    service = request.service.name
    return child(request, "Service", router_name(service), Component.ROUTER) | {
        "spec": {
            "selector": dict(selector(service, Component.ROUTER)),
            "ports": [{"name": HTTP, "port": CLIENT_PORT, "targetPort": HTTP, "protocol": "TCP"}],
        }
    }


def router_deployment(request: Desired, load: LoadPart) -> Manifest:
    """No checksum: configuration, policies, token and certificates are followed while routers run."""
    service = request.service
    return child(request, "Deployment", router_name(service.name), Component.ROUTER) | {
        "spec": {
            "replicas": service.spec.router.replicas,
            "selector": {"matchLabels": dict(selector(service.name, Component.ROUTER))},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": KEPT_REVISIONS,
            "progressDeadlineSeconds": START_SECONDS + 10 * 60,
            "template": shaped(_template(request, load), service.spec.router.pod),
        }
    }


def router_disruption_budget(request: Desired) -> tuple[Manifest, ...]:
    """One router at a time; none for a single one, which could then never be moved."""
    service = request.service
    if service.spec.router.replicas == 1:
        return ()
    budget = child(request, "PodDisruptionBudget", router_name(service.name), Component.ROUTER) | {
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": dict(selector(service.name, Component.ROUTER))},
        }
    }
    return (budget,)


def _template(request: Desired, load: LoadPart) -> dict[str, Any]:
    service, settings = request.service.name, request.settings
    volumes, mounts = _folders(service)
    chosen = dict(selector(service, Component.ROUTER))
    resources = request.service.spec.router.resources
    return {
        "metadata": {"labels": dict(child_labels(service, Component.ROUTER))},
        "spec": {
            "serviceAccountName": router_name(service),
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": round(
                LIMITS.propagation_seconds + LIMITS.drain_timeout_seconds + STOP_SECONDS
            ),
            "securityContext": dict(RESTRICTED_POD),
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": key,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": chosen},
                    "matchLabelKeys": ["pod-template-hash"],
                }
                for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
            ],
            "containers": [
                {
                    "name": "router",
                    **own_image(settings.images.router, settings.images),
                    "command": ["python", "-m", "bes_router"],
                    "args": _arguments(),
                    "ports": [
                        {"name": HTTP, "containerPort": CLIENT_PORT, "protocol": "TCP"},
                        {"name": ADMIN, "containerPort": ADMIN_PORT, "protocol": "TCP"},
                    ],
                    "resources": written(resources) if resources else _own_resources(request),
                    "startupProbe": http_probe(Probe(_HEALTHY, period_seconds=1, failures=START_SECONDS), ADMIN),
                    "readinessProbe": http_probe(Probe(_READY, period_seconds=2, failures=3), ADMIN),
                    "livenessProbe": http_probe(Probe(_HEALTHY, period_seconds=10, failures=6), ADMIN),
                    "securityContext": dict(RESTRICTED),
                    "volumeMounts": [*mounts, *load.mounts],
                }
            ],
            "volumes": [*volumes, *load.volumes],
            **pull_secrets(settings.images.pull_secrets),
        },
    }


def _own_resources(request: Desired) -> dict[str, Any]:
    stated = request.settings.router_resources.model_dump()
    return {name: amounts for name, amounts in stated.items() if amounts}


def _arguments() -> list[str]:
    return [
        f"--config={FOLDERS}/config",
        f"--policy={FOLDERS}/active",
        f"--candidate={FOLDERS}/candidate",
        f"--admin-token={FOLDERS}/admin/{TOKEN_KEY}",
    ]


def _folders(service: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    sources: dict[str, dict[str, Any]] = {
        "config": {"configMap": {"name": router_name(service)}},
        "active": {"configMap": {"name": active_name(service)}},
        "candidate": {"configMap": {"name": candidate_name(service)}},
        "admin": {"secret": {"secretName": admin_secret_name(service)}},
    }
    parts = [folder(name, source, f"{FOLDERS}/{name}") for name, source in sources.items()]
    return [volume for volume, _ in parts], [mount for _, mount in parts]
