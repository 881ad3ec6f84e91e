"""What all children have in common: identity, labels and the one owner."""

from typing import Any

from bes_api.service import API_VERSION, KIND
from bes_operator.desired.request import Desired
from bes_operator.kinds import KINDS
from bes_operator.labels import Component, child_labels


def child(request: Desired, kind: str, name: str, component: Component, model: str | None = None) -> dict[str, Any]:
    """A child's beginning. No ``blockOwnerDeletion``: that needs rights on the owner's finalizers."""
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": request.namespace,
            "labels": dict(child_labels(request.service.name, component, model)),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": request.service.name,
                    "uid": request.uid,
                    "controller": True,
                }
            ],
        },
    }
