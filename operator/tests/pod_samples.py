"""Pods of a Deployment, as kubelets and the scheduler show them when something keeps them from starting."""

import copy
from datetime import datetime, timedelta
from typing import Any

from bes_api.conditions import INSTANT_FORM
from bes_operator.manifest import Key, Manifest

BACK_OFF = (
    "back-off {back_off} restarting failed container=engine pod=demo-opt-125m-6d5f-{number}_apps(6c1f0a3e-1111-2222)"
)
NO_GPU = (
    "0/{nodes} nodes are available: {nodes} Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: "
    "0/{nodes} nodes are available: {nodes} No preemption victims found for incoming pod."
)
NOT_FOUND = (
    'failed to pull and unpack image "localhost/nope:1": failed to resolve reference "localhost/nope:1": failed to do '
    'request: Head "https://localhost/v2/nope/manifests/1": dial tcp 127.0.0.1:443: connect: connection refused'
)


def pod_of(deployment: Manifest, created: datetime, number: int = 0, **status: Any) -> tuple[Key, dict[str, Any]]:
    """One of its newest template."""
    metadata, template = deployment["metadata"], copy.deepcopy(deployment["spec"]["template"])
    for container in template["spec"]["containers"]:  # as the API server does, in pods alone
        resources = container.setdefault("resources", {})
        resources["requests"] = {**resources.get("limits", {}), **resources.get("requests", {})}
    name = f"{metadata['name']}-6d5f-{number}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{metadata['name']}-6d5f", "uid": "set"}
    return Key("Pod", metadata["namespace"], name), {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": name,
            "namespace": metadata["namespace"],
            "creationTimestamp": created.strftime(INSTANT_FORM),
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
        "status": status,
    }


def waiting(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    return _containers(state={"waiting": {"reason": reason, "message": message}}, **container)


def ended(exit_code: int, reason: str, ran: timedelta = timedelta(seconds=5), **more: Any) -> dict[str, Any]:
    at = datetime.fromisoformat("2026-03-01T11:00:00Z")
    instants = {"startedAt": at.strftime(INSTANT_FORM), "finishedAt": (at + ran).strftime(INSTANT_FORM)}
    return {"terminated": {"exitCode": exit_code, "reason": reason, **instants, **more}}


def crashing(restarts: int, step: int, last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Step 0, 1, 2 of what a kubelet shows of a container that ends whenever it is started."""
    last = last or ended(1, "Error")
    back_off = BACK_OFF.format(back_off=f"{10 * restarts}s", number=restarts)
    states = (
        {"waiting": {"reason": "CrashLoopBackOff", "message": back_off}},
        {"running": {"startedAt": f"2026-03-01T11:{restarts % 60:02}:00Z"}},
        last,
    )
    return _containers(state=states[step], lastState=last, restartCount=restarts)


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def _containers(**container: Any) -> dict[str, Any]:
    image = {"name": "engine", "image": "localhost/nope:1", "ready": False, "restartCount": 0}
    return {"phase": "Pending", "containerStatuses": [{**image, **container}]}
