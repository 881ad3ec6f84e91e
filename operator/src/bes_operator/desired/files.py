"""ConfigMaps as the folders that pods see: configuration, scenario, chat templates, and the policies' folders."""

import base64
from collections.abc import Mapping
from typing import Any

from bes_operator.desired.child import child
from bes_operator.desired.request import Desired
from bes_operator.labels import Component
from bes_operator.manifest import Manifest
from bes_operator.names import active_name, candidate_name


def config_map(request: Desired, name: str, component: Component, files: Mapping[str, bytes]) -> Manifest:
    """A ConfigMap that a pod sees as ``files``; what is no text goes to ``binaryData``."""
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in sorted(files.items()):
        written = _as_text(content)
        if written is None:
            binary[key] = base64.b64encode(content).decode()
        else:
            text[key] = written
    body: dict[str, Any] = {"data": text} if text else {}
    if binary:
        body["binaryData"] = binary
    return child(request, "ConfigMap", name, component) | body


def policy_objects(request: Desired) -> tuple[Manifest, ...]:
    """The two folders that routers look into; empty ones too, since routers mount them."""
    service, policy = request.service.name, request.policy
    return (
        config_map(request, active_name(service), Component.POLICY, policy.active),
        config_map(request, candidate_name(service), Component.POLICY, policy.candidate),
    )


def _as_text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
