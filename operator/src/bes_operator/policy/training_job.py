"""The training Job of a service's scenario, and the ConfigMap with its order."""

from typing import Any

from bes_api.scenario import Scenario
from bes_api.service import API_VERSION, KIND, Training
from bes_api.training_order import ORDER, ArtifactPlace, TrainingOrder
from bes_operator.desired.pods import RESTRICTED, RESTRICTED_POD, folder, own_image, pull_secrets, shaped
from bes_operator.labels import Component, child_labels
from bes_operator.manifest import Manifest
from bes_operator.names import training_name
from bes_operator.policy.seen import PolicySeen

CONTAINER = "training"
SCENARIO_ANNOTATION = "besteffort.dev/scenario"
"""Content hash of the scenario that a Job trains."""
BACKOFF_LIMIT = 1
"""Failed twice is failed."""
GRACE_SECONDS = 60
"""For a checkpoint."""
_ORDER_FOLDER, _WORK_FOLDER, _CACHE_FOLDER = "/etc/best-effort/order", "/var/lib/best-effort", "/var/cache/best-effort"


def job_name(service: str, scenario_hash: str) -> str:
    """Of Job and order; at most 46 characters."""
    return f"{service}-train-{scenario_hash.removeprefix('sha256:')[:8]}"


def metadata_of(seen: PolicySeen, name: str, component: Component) -> dict[str, Any]:
    """Of an object that the service owns."""
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": seen.service.name, "uid": seen.uid, "controller": True}
    return {
        "name": name,
        "namespace": seen.namespace,
        "labels": dict(child_labels(seen.service.name, component)),
        "ownerReferences": [owner],
    }


def order_of(seen: PolicySeen, scenario: Scenario, training: Training) -> Manifest:
    """The ConfigMap with what the Job is to do. It never changes: another scenario has another Job."""
    service = seen.service.name
    scenario_hash = scenario.content_hash()
    place = ArtifactPlace(
        namespace=seen.namespace,
        prefix=f"{service}-policy-{scenario_hash.removeprefix('sha256:')[:8]}",
        labels=dict(child_labels(service, Component.POLICY)),
    )
    order = TrainingOrder(
        scenario=scenario,
        learner=training.learner,
        decisions=training.decisions,
        seeds=training.seeds,
        artifact=place,
    )
    metadata = metadata_of(seen, job_name(service, scenario_hash), Component.TRAINING)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {ORDER: order.model_dump_json()}}


def job_of(seen: PolicySeen, scenario_hash: str) -> Manifest:
    """The Job, suspended: it waits in the queue. It is applied once and never again, for its template cannot change.

    Containers are restarted inside their pod, so that a training goes on from its journal.
    """
    service, settings = seen.service.name, seen.settings
    name = job_name(service, scenario_hash)
    metadata = metadata_of(seen, name, Component.TRAINING)
    metadata["annotations"] = {SCENARIO_ANNOTATION: scenario_hash}
    order_volume, order_mount = folder("order", {"configMap": {"name": name}}, _ORDER_FOLDER)
    writable = [("work", _WORK_FOLDER), ("cache", _CACHE_FOLDER), ("tmp", "/tmp")]  # noqa: S108 - a volume of its own
    container = {
        "name": CONTAINER,
        **own_image(settings.images.training, settings.images),
        "command": ["python", "-m", "bes_training"],
        "args": [
            "job",
            f"{_ORDER_FOLDER}/{ORDER}",
            "--work",
            _WORK_FOLDER,
            "--job-name",
            name,
            "--job-uid",
            "$(JOB_UID)",
            "--threads",
            "$(THREADS)",
        ],
        "env": [
            {
                "name": "JOB_UID",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}},
            },
            {"name": "THREADS", "valueFrom": {"resourceFieldRef": {"resource": _counted_cpu(seen), "divisor": "1"}}},
            {"name": "BES_CACHE_DIR", "value": _CACHE_FOLDER},
            {"name": "HOME", "value": _WORK_FOLDER},
        ],
        "resources": settings.training_resources.model_dump(exclude_defaults=True),
        "securityContext": dict(RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [order_mount, *({"name": f"bes-{name}", "mountPath": path} for name, path in writable)],
    }
    labels = dict(child_labels(service, Component.TRAINING))
    pod = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": training_name(service),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {**RESTRICTED_POD, "fsGroup": RESTRICTED_POD["runAsGroup"]},
        **pull_secrets(settings.images.pull_secrets),
        "containers": [container],
        "volumes": [order_volume, *({"name": f"bes-{name}", "emptyDir": {}} for name, _ in writable)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "suspend": True,
            "backoffLimit": BACKOFF_LIMIT,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": int(settings.training_deadline_seconds),
            "template": shaped({"metadata": {"labels": labels}, "spec": pod}, settings.training_pod),
        },
    }


def _counted_cpu(seen: PolicySeen) -> str:
    """A thread for each core of the limit; without one, of the request (a node's cores are others' too)."""
    resources = seen.settings.training_resources
    return "limits.cpu" if "cpu" in resources.limits or "cpu" not in resources.requests else "requests.cpu"
