"""Objects as the API server takes them, their identity, and the steps in which they are applied. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]
"""A JSON object as the API server takes it. Treat as read-only."""

FIELD_MANAGER = "best-effort-serving"
"""Field manager of everything that the operator intends."""
REPLICAS_MANAGER = "best-effort-serving-replicas"
"""Field manager that holds `spec.replicas` where somebody else scales, so that our own may let go of it."""


@dataclass(frozen=True, order=True)
class Key:
    """Identity of an object; kinds are unique among those that we handle, so no group is needed."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Apply:
    """One server-side apply.

    A step by FIELD_MANAGER states the full intent and is left out of a pass where nothing differs. A step by
    REPLICAS_MANAGER is there only when it is needed, and is then carried out as it is.
    """

    manifest: Manifest
    field_manager: str = FIELD_MANAGER
    force: bool = True
    """False: another manager's change since we looked is a conflict, and the pass begins anew."""


def key_of(manifest: Manifest) -> Key:
    """The identity of ``manifest``; "" as namespace where it has none."""
    metadata = manifest["metadata"]
    return Key(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
