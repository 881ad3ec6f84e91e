"""Who the pods are and what they may do: ServiceAccounts, RoleBindings, and the token of the admin port."""

import base64
from typing import Any

from bes_api.service import PolicyType
from bes_operator.desired.child import child
from bes_operator.desired.request import Desired
from bes_operator.kinds import KINDS
from bes_operator.labels import Component
from bes_operator.manifest import Manifest
from bes_operator.names import admin_secret_name, router_name, training_name

TOKEN_KEY = "token"  # noqa: S105 - a key, not a secret
_RBAC = KINDS["RoleBinding"].group


def access_objects(request: Desired) -> tuple[Manifest, ...]:
    """The router may read EndpointSlices; a training, where one may run, create ConfigMaps. Engines are nobody."""
    service, policy = request.service, request.service.spec.policy
    objects = list(_account(request, router_name(service.name), Component.ROUTER, request.settings.router_role))
    if policy.type is PolicyType.LEARNED and policy.source.training is not None:
        name, role = training_name(service.name), request.settings.training_role
        objects += _account(request, name, Component.TRAINING, role)
    return (*objects, _admin_token(request))


def _account(request: Desired, name: str, component: Component, role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    account = child(request, "ServiceAccount", name, component) | {"automountServiceAccountToken": False}
    binding = child(request, "RoleBinding", name, component) | {
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": request.namespace}],
    }
    return account, binding


def _admin_token(request: Desired) -> dict[str, Any]:
    encoded = base64.b64encode(request.admin_token.encode()).decode()
    secret = child(request, "Secret", admin_secret_name(request.service.name), Component.ROUTER)
    return secret | {"type": "Opaque", "data": {TOKEN_KEY: encoded}}
