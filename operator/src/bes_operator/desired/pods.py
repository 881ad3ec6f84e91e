"""What all pods have in common: how little they may do, how they are shaped by the resource, how they are probed."""

from collections.abc import Iterable, Mapping
from typing import Any

from bes_api.engines.facts import Probe
from bes_api.service.pod import EnginePod, PodPlace, written
from bes_operator.settings import Images

HTTP = "http"
ADMIN = "admin"
PROPAGATION_SECONDS = 10
"""So long it may take until everybody has heard that a pod leaves: kube-proxy of every node, and every router."""
NUMERIC_USER = 10001
"""User of our own images."""
UNPRIVILEGED: Mapping[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""Any container; images of others may want to be root inside it."""
RESTRICTED: Mapping[str, Any] = {**UNPRIVILEGED, "readOnlyRootFilesystem": True}
"""A container of one of our own images."""
SECCOMP: Mapping[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_POD: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": NUMERIC_USER,
    "runAsGroup": NUMERIC_USER,
    **SECCOMP,
}
_SHAPE = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "schedulerName")


def http_probe(probe: Probe, port: str) -> dict[str, Any]:
    """``probe`` as the kubelet takes it."""
    return {
        "httpGet": {"path": probe.path, "port": port},
        "periodSeconds": probe.period_seconds,
        "failureThreshold": probe.failures,
        "timeoutSeconds": probe.timeout_seconds,
    }


def stop_after(seconds: int) -> dict[str, Any]:
    """A container whose SIGTERM comes ``seconds`` after its pod began to leave."""
    return {"lifecycle": {"preStop": {"exec": {"command": ["sleep", str(seconds)]}}}}


def own_image(reference: str, images: Images) -> dict[str, Any]:
    """A container of one of our own images."""
    return {"image": reference, "imagePullPolicy": images.pull_policy}


def pull_secrets(names: Iterable[str]) -> dict[str, Any]:
    """A pod spec's part; nothing where there are none."""
    listed = [{"name": name} for name in names]
    return {"imagePullSecrets": listed} if listed else {}


def folder(name: str, source: Mapping[str, Any], path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A volume of ours and its read-only mount. As a directory, never subPath: only those follow changes."""
    return {"name": f"bes-{name}", **source}, {"name": f"bes-{name}", "mountPath": path, "readOnly": True}


def shaped(template: Mapping[str, Any], shape: PodPlace | None) -> dict[str, Any]:
    """A pod template with one container, shaped as the resource or the settings say.

    Labels of ours win, since Deployments and Services select by them; variables and mounts of the resource win.
    """
    if shape is None:
        return dict(template)
    stated = written(shape)
    metadata, spec = dict(template["metadata"]), dict(template["spec"])
    for member in ("labels", "annotations"):
        merged = {**stated.get(member, {}), **metadata.get(member, {})}
        if merged:
            metadata[member] = merged
    (container,) = spec["containers"]
    container = {
        **container,
        **_merged("env", "name", container.get("env", []), stated.get("env", [])),
        **_merged("volumeMounts", "mountPath", container.get("volumeMounts", []), stated.get("volumeMounts", [])),
    }
    spec |= {member: stated[member] for member in _SHAPE if member in stated}
    spec |= _merged("volumes", "name", spec.get("volumes", []), stated.get("volumes", []))
    if isinstance(shape, EnginePod) and shape.service_account_name is not None:
        spec["serviceAccountName"] = shape.service_account_name
    return {"metadata": metadata, "spec": spec | {"containers": [container]}}


def _merged(
    member: str, key: str, ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    merged = {item[key]: dict(item) for item in (*ours, *theirs)}
    return {member: list(merged.values())} if merged else {}
