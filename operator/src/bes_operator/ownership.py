"""Whose an object is that has a child's name: ours by reference, else somebody else's and not to be touched. Pure."""

from collections.abc import Collection
from enum import Enum, auto

from bes_operator.kinds import SERVICE_KIND
from bes_operator.labels import MANAGED_BY, MANAGER, SERVICE
from bes_operator.manifest import Key, Manifest

_COLLECTOR = frozenset({"foregroundDeletion", "orphan"})
"""Finalizers that Kubernetes itself takes away."""


class Claim(Enum):
    """See the module."""

    OURS = auto()
    """The service owns it, or something of the service's does (an artifact that its Job left)."""
    FREE = auto()
    """It carries our labels and nobody controls it: its service was deleted without it, or came from a backup."""
    LEAVING = auto()
    """It belongs to a service of that name that is gone, and will be collected."""
    TAKEN = auto()
    """Somebody else's."""


def claim_on(live: Manifest, service: Key, uid: str, own: Collection[str]) -> Claim:
    """``uid`` is the service's; ``own`` are those of what it owns."""
    metadata = live["metadata"]
    owners = metadata.get("ownerReferences") or ()
    if any(owner["uid"] == uid or owner["uid"] in own for owner in owners):
        return Claim.OURS
    if any(owner["kind"] == SERVICE_KIND and owner["name"] == service.name for owner in owners):
        return Claim.LEAVING
    labels = metadata.get("labels") or {}
    free = not any(owner.get("controller") for owner in owners)
    return (
        Claim.FREE if free and (labels.get(MANAGED_BY), labels.get(SERVICE)) == (MANAGER, service.name) else Claim.TAKEN
    )


def owned_by(live: Manifest, uid: str) -> bool:
    """Whether the service itself owns it: only that is pruned."""
    return any(owner["uid"] == uid for owner in live["metadata"].get("ownerReferences") or ())


def is_leaving(live: Manifest) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in live["metadata"]


def held_by(live: Manifest) -> str:
    """Who keeps something that is being deleted, and the mend, for a message; "" where nobody does."""
    names = [name for name in live["metadata"].get("finalizers") or () if name not in _COLLECTOR]
    return f"it is held by {', '.join(names)}: whoever put that there must take it away" if names else ""
