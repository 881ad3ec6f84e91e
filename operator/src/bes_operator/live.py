"""What Deployments, EndpointSlices and routers say of themselves, read for the status. Nothing is decided here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bes_operator.labels import COMPONENT, Component
from bes_operator.manifest import Key, Manifest

SERVICE_OF_SLICE = "kubernetes.io/service-name"
_PAUSED = "the Deployment is paused: kubectl rollout resume"
_PROGRESS_LATE = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Rollout:
    """How far a Deployment is."""

    desired: int
    updated: int
    """Pods of the newest template."""
    available: int
    settled: bool
    """The controller has seen the newest spec, and no pod of an older one is left."""
    stuck: str | None
    """Why it makes no progress; None: it does."""
    failure: str | None
    """Why pods cannot even be made (quota, admission, somebody paused it); None: they can."""

    @property
    def done(self) -> bool:
        """Everything that is desired is there, and nothing else."""
        return self.settled and self.updated == self.desired == self.available


def rollout_of(deployment: Manifest) -> Rollout:
    """As kstatus judges Deployments."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    desired = int(spec.get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0))
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    progressing = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    return Rollout(
        desired=desired,
        updated=updated,
        available=int(status.get("availableReplicas", 0)),
        settled=seen and int(status.get("replicas", 0)) == updated,
        stuck=_message(progressing) if progressing.get("reason") == _PROGRESS_LATE else None,
        failure=_PAUSED if spec.get("paused") else _message(failure) if failure.get("status") == "True" else None,
    )


def ready_addresses(live: Mapping[Key, Manifest], service: str) -> int:
    """Ready endpoints of the Service named ``service``; one that two slices list (while one moves) counts once."""
    return len(_ready(each for each in _slices(live) if _label(each, SERVICE_OF_SLICE) == service))


def ready_of(live: Mapping[Key, Manifest], component: Component) -> int:
    """The same of all Services of a component: their labels are their slices' too."""
    return len(_ready(each for each in _slices(live) if _label(each, COMPONENT) == component))


def _slices(live: Mapping[Key, Manifest]) -> Iterable[Manifest]:
    return (manifest for key, manifest in live.items() if key.kind == "EndpointSlice")


def _ready(slices: Iterable[Manifest]) -> set[str]:
    return {
        address
        for each in slices
        for endpoint in each.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ()
    }


def _label(manifest: Manifest, name: str) -> str | None:
    found = (manifest["metadata"].get("labels") or {}).get(name)
    return None if found is None else str(found)


def _message(condition: Mapping[str, Any]) -> str:
    return str(condition.get("message") or condition.get("reason") or "no reason given")
