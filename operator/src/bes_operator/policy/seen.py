"""What the way of a policy looks at, and what it asks for: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bes_api.router_config import ConfiguredPolicy
from bes_api.router_status import RouterStatus
from bes_api.scenario import Scenario
from bes_api.service import BestEffortService
from bes_api.service_status import ConditionStatus, PolicyStatus, Reason
from bes_operator.event import Event
from bes_operator.manifest import Apply, Key, Manifest
from bes_operator.settings import OperatorSettings

QUEUE_MANAGER = "best-effort-serving-queue"
"""Field manager that holds `spec.suspend` of a training Job: a Job is made suspended and let go when it is its turn."""


@dataclass(frozen=True)
class RouterSeen:
    """One router pod that Kubernetes calls ready, and what it last said of itself."""

    name: str
    status: RouterStatus | None = None
    """None: it has said nothing yet."""
    age_seconds: float = 0.0
    """How long ago it said so."""


@dataclass(frozen=True)
class PolicySeen:
    """Everything that decides about one service's policy, as it is at ``now``."""

    service: BestEffortService
    namespace: str
    uid: str
    scenario: Scenario | None
    """None: a profile is missing or unreadable. Nothing is trained then, and what serves goes on."""
    settings: OperatorSettings
    now: datetime
    config_maps: tuple[Manifest, ...] = ()
    """Those with this service's label and component `policy`, whoever owns them."""
    jobs: tuple[Manifest, ...] = ()
    """Those with this service's label and component `training`."""
    pods: tuple[Manifest, ...] = ()
    """The same of pods."""
    trainings: tuple[Manifest, ...] = ()
    """Every training Job of this operator, this service's too. Jobs of a paused service that wait are left out."""
    imported: Manifest | None = None
    """The ConfigMap that `policy.source.imported` names, whatever its labels; None: there is none."""
    routers: tuple[RouterSeen, ...] = ()
    previous: PolicyStatus | None = None
    """The status as it was last written: a second copy of the ledger, for when that is gone."""


@dataclass(frozen=True)
class PolicyPart:
    """What the routers are given; the same for every router of the service."""

    configured: ConfiguredPolicy
    """The policy of the router's configuration."""
    active: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the ConfigMap `<service>-active`."""
    candidate: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the ConfigMap `<service>-candidate`."""


@dataclass(frozen=True)
class Deletion:
    """An object that has had its day; only if it is still that one."""

    key: Key
    uid: str


@dataclass(frozen=True)
class PolicyPlan:
    """What to do now. Without a change outside, a second plan asks for the same and has no events."""

    part: PolicyPart
    steps: tuple[Apply, ...]
    """In order; to be applied after the service's ServiceAccounts and RoleBindings."""
    deletions: tuple[Deletion, ...]
    kept: frozenset[Key]
    """Labelled objects of the service that no intent names and that must not be pruned: artifacts, Jobs."""
    status: PolicyStatus
    ready: ConditionStatus
    """Of the condition PolicyReady."""
    reason: Reason
    message: str
    events: tuple[Event, ...] = ()
    """To be told once the steps are applied."""
    wait_seconds: float | None = None
    """When to look again though nothing changed; None: not for the policy's sake."""
