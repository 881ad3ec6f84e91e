"""ConfigMaps as the folders that pods see: configuration, scenario, chat templates, and the policies' folders."""

from collections.abc import Mapping

from bes_api.config_map import data_of
from bes_operator.desired.child import child
from bes_operator.desired.request import Desired
from bes_operator.labels import Component
from bes_operator.manifest import Manifest
from bes_operator.names import active_name, candidate_name


def config_map(request: Desired, name: str, component: Component, files: Mapping[str, bytes]) -> Manifest:
    """A ConfigMap that a pod sees as ``files``."""
    return child(request, "ConfigMap", name, component) | data_of(files)


def policy_objects(request: Desired) -> tuple[Manifest, ...]:
    """The two folders that routers look into; empty ones too, since routers mount them."""
    service, policy = request.service.name, request.policy
    return (
        config_map(request, active_name(service), Component.POLICY, policy.active),
        config_map(request, candidate_name(service), Component.POLICY, policy.candidate),
    )
