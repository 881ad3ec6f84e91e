"""Labels of the objects that a service owns: what they are found, selected, scraped and pruned by."""

from collections.abc import Mapping
from enum import StrEnum

from bes_operator.names import model_slug

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "best-effort-serving"
SERVICE = "besteffort.dev/service"
COMPONENT = "besteffort.dev/component"
MODEL = "besteffort.dev/model"
CHILDREN_SELECTOR = f"{MANAGED_BY}={MANAGER},{SERVICE}"
"""Every child of every service."""


class Component(StrEnum):
    """What a child is for."""

    ROUTER = "router"
    ENGINE = "engine"
    TRAINING = "training"
    POLICY = "policy"


def child_labels(service: str, component: Component, model: str | None = None) -> Mapping[str, str]:
    """All labels of a child; ``model`` is the model's own name."""
    return {MANAGED_BY: MANAGER, **selector(service, component, model)}


def selector(service: str, component: Component, model: str | None = None) -> Mapping[str, str]:
    """What selects the pods of a component, or of one model's engines. Never changes: Deployments forbid it."""
    chosen = {SERVICE: service, COMPONENT: str(component)}
    if model is not None:
        chosen[MODEL] = model_slug(service, model)
    return chosen


def selector_text(labels: Mapping[str, str]) -> str:
    """A label selector as the API's query takes it."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
