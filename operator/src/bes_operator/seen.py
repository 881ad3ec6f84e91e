"""Everything that the status of a service follows from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bes_api.service import BestEffortService
from bes_api.service_status import ServedStatus, ServiceStatus
from bes_operator.desired.request import Complaint, Wanted
from bes_operator.manifest import Key, Manifest
from bes_operator.policy.seen import PolicyPlan, RouterSeen
from bes_operator.settings import OperatorSettings


@dataclass(frozen=True)
class Seen:
    """One service at ``now``, at the end of a pass."""

    name: str
    namespace: str
    generation: int
    settings: OperatorSettings
    now: datetime
    service: BestEffortService | None
    """None: what is stored cannot be read; ``complaints`` say why."""
    previous: ServiceStatus = field(default_factory=ServiceStatus)
    """As it is stored."""
    live: Mapping[Key, Manifest] = field(default_factory=dict)
    """Children, EndpointSlices and pods as they are after the pass."""
    wanted: Wanted | None = None
    """What this pass wanted; None: nothing could be computed, or the service is paused."""
    policy: PolicyPlan | None = None
    """None: nothing was planned; the previous status of the policy stays."""
    routers: tuple[RouterSeen, ...] = ()
    """Ready router pods."""
    complaints: tuple[Complaint, ...] = ()
    """What went wrong beside what ``wanted`` says: an unreadable resource, a taken name, a call that was refused."""
    served: ServedStatus | None = None
    """What routers delivered, as `served.tell` gives it; None: nothing new, what is stored stays."""
    paused: bool = False
    """Nothing is applied, because the resource asks for that."""
