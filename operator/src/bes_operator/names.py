"""Names of the objects that a service owns: deterministic, distinct, and fit for Services (DNS-1035) and pods."""

import hashlib
import re

MAX_NAME = 52
"""Leaves room for what Deployments and Jobs append to the names of their pods (63 together)."""
_HASH_DIGITS = 8


def model_slug(service: str, model: str) -> str:
    """`<slug>-<8 hex of sha256 of the model's name>`: the model's name cut to what the service's name leaves."""
    digest = hashlib.sha256(model.encode()).hexdigest()[:_HASH_DIGITS]
    room = MAX_NAME - len(service) - len(digest) - 2
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower())[:room].strip("-")
    return f"{slug}-{digest}" if slug else digest


def engine_name(service: str, model: str) -> str:
    """Deployment and Service of a model's engines."""
    return f"{service}-{model_slug(service, model)}"


def router_name(service: str) -> str:
    """Router: Deployment, Service, PodDisruptionBudget, ConfigMap of its configuration, ServiceAccount, RoleBinding."""
    return f"{service}-router"


def admin_secret_name(service: str) -> str:
    """Secret with the token of the routers' admin port."""
    return f"{service}-router-admin"


def active_name(service: str) -> str:
    """ConfigMap of the policy that decides."""
    return f"{service}-active"


def candidate_name(service: str) -> str:
    """ConfigMap of the policy in shadow."""
    return f"{service}-candidate"


def training_name(service: str) -> str:
    """ServiceAccount and RoleBinding of the training Jobs."""
    return f"{service}-training"


def scenario_name(service: str) -> str:
    """ConfigMap of the scenario that emulated engines read."""
    return f"{service}-scenario"


def chat_template_name(service: str) -> str:
    """ConfigMap of the chat template for models that bring none."""
    return f"{service}-chat-template"
