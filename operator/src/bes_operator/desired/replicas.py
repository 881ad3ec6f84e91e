"""Who scales a model: this operator (`replicas`), or somebody else inside `replicaRange`.

`spec.replicas` may not leave our intent while nobody else owns it: the API server would reset it to 1. So a second
field manager of ours takes the live value first. Taken back, our intent states it first, then that manager lets go.
"""

from collections.abc import Mapping
from typing import Any

from bes_api.service import Model, ReplicaRange
from bes_operator.manifest import FIELD_MANAGER, REPLICAS_MANAGER, Apply, Manifest

SCALED_FROM_ONE = 1
"""What the API server sets where nobody says how many."""


def deployment_steps(intent: Manifest, model: Model, live: Manifest | None) -> tuple[Apply, ...]:
    """The steps that make ``intent`` (without `replicas` where the model has a range) real; ``live`` as it is now."""
    if model.replica_range is None:
        release = live is not None and _owns_replicas(live, REPLICAS_MANAGER)
        return (Apply(intent), *([_nothing(intent)] if release else []))
    if live is None:
        return Apply(intent), *_brought_into(model.replica_range, SCALED_FROM_ONE, intent)
    replicas = int(live["spec"].get("replicas", SCALED_FROM_ONE))
    handed = [_stated(intent, replicas, force=False)] if _owns_replicas(live, FIELD_MANAGER) else []
    return (*handed, Apply(intent), *_brought_into(model.replica_range, replicas, intent))


def _brought_into(allowed: ReplicaRange, replicas: int, intent: Manifest) -> tuple[Apply, ...]:
    inside = min(max(replicas, allowed.min), allowed.max)
    return () if inside == replicas else (_stated(intent, inside, force=True),)


def _stated(intent: Manifest, replicas: int, *, force: bool) -> Apply:
    """Not forced where the live value is handed over: whoever scaled meanwhile is right, and we look again."""
    return Apply({**_identity(intent), "spec": {"replicas": replicas}}, REPLICAS_MANAGER, force)


def _nothing(intent: Manifest) -> Apply:
    """An intent without a field: what this manager alone owned is let go of."""
    return Apply(_identity(intent), REPLICAS_MANAGER)


def _identity(intent: Manifest) -> dict[str, Any]:
    metadata = intent["metadata"]
    return {
        "apiVersion": intent["apiVersion"],
        "kind": intent["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }


def _owns_replicas(live: Manifest, manager: str) -> bool:
    entries = live["metadata"].get("managedFields") or ()
    return any(
        entry.get("manager") == manager and entry.get("operation") == "Apply" and _holds_replicas(entry)
        for entry in entries
    )


def _holds_replicas(entry: Mapping[str, Any]) -> bool:
    return "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
