"""GPUs that a cluster without any advertises: extended resources, so that scheduling by them is real.

As Kubernetes' documentation advertises extended resources: a patch of the node's status, which its kubelet keeps.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bes_api.service import BestEffortService
from bes_lab.errors import ClusterError

_ORDINARY = ("cpu", "memory", "ephemeral-storage", "hugepages-")


def requested(service: BestEffortService) -> Mapping[str, int]:
    """What all replicas of all its models ask for together, at the upper ends of their ranges."""
    total: Counter[str] = Counter()
    for model in service.spec.models:
        resources = model.resources
        asked: Mapping[str, Any] = (resources.limits or resources.requests or {}) if resources else {}
        for name, amount in asked.items():
            if not name.startswith(_ORDINARY):
                total[name] += int(str(amount)) * model.max_replicas
    return dict(total)


def stated(given: str) -> tuple[str, int]:
    """``NAME=COUNT`` as the command line says it. Raises ClusterError."""
    name, _, count = given.partition("=")
    if "/" not in name or not count.isdigit():
        raise ClusterError(f"--resource {given}: expected NAME=COUNT with a domain in the name, as nvidia.com/gpu=4")
    return name, int(count)


def shared_out(devices: Mapping[str, int], nodes: int) -> list[Mapping[str, int]]:
    """What each node advertises; the first ones have more where it does not come out even."""
    return [
        {name: count // nodes + (number < count % nodes) for name, count in devices.items()} for number in range(nodes)
    ]


def patch(devices: Mapping[str, int]) -> str:
    """The merge patch of a node's status."""
    said = {name: str(count) for name, count in devices.items()}
    return json.dumps({"status": {"capacity": said, "allocatable": said}})
