"""What the objects of a service follow from, and what follows: values that `desired_objects` takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bes_api.service import BestEffortService
from bes_api.service_status import ConditionType, Reason
from bes_operator.manifest import FIELD_MANAGER, Apply, Key, Manifest
from bes_operator.policy.seen import PolicyPart
from bes_operator.settings import OperatorSettings


@dataclass(frozen=True)
class Desired:
    """Everything that the objects of one service follow from."""

    service: BestEffortService
    namespace: str
    uid: str
    settings: OperatorSettings
    admin_token: str
    """Bearer token of the routers' admin port."""
    policy: PolicyPart
    profiles: Mapping[str, Manifest] = field(default_factory=dict)
    """ConfigMaps that models name as their profile, by name; one that is not there is absent."""
    missing: frozenset[Key] = frozenset()
    """Those of `references(service)` that are not there."""
    live: Mapping[Key, Manifest] = field(default_factory=dict)
    """Children as they are; Deployments are looked at, for what others scale and for what is better left alone."""


@dataclass(frozen=True)
class Complaint:
    """Something that the service asks for and does not get, for the condition that says so."""

    condition: ConditionType
    reason: Reason
    message: str
    """With the mend."""


@dataclass(frozen=True)
class Wanted:
    """What to apply, in this order, and what stays although nothing of this pass intends it."""

    steps: tuple[Apply, ...]
    keep: frozenset[Key] = frozenset()
    """Not applied and not pruned: what serves goes on as it is."""
    keep_all: bool = False
    """Nothing at all may be pruned: what the service asks for could not be computed."""
    complaints: tuple[Complaint, ...] = ()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything that is intended, handing over of replicas left out."""
        return tuple(step.manifest for step in self.steps if step.field_manager == FIELD_MANAGER)
