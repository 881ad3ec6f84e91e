"""The resource `BestEffortService` as users write it (besteffort.dev/v1alpha1): its form, and nothing computed.

Rules across fields are in ``rules``. No field is here before code honours it. A union goes by the member that is set.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bes_api.quantities import DottedName
from bes_api.service.engine import Engine
from bes_api.service.load import Load
from bes_api.service.models import AcceleratorGroup, Model
from bes_api.service.part import BY_NAME, Count, Flag, Part
from bes_api.service.pod import Pod, Resources
from bes_api.service.policy import Policy
from bes_api.service.tasks import Task

GROUP = "besteffort.dev"
VERSION = "v1alpha1"
KIND = "BestEffortService"
PLURAL = "besteffortservices"
API_VERSION = f"{GROUP}/{VERSION}"


class Metadata(BaseModel):
    """Kubernetes' own object metadata; only the name is read here, the rest is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str


class Clients(Part):
    """What clients may ask for beyond a task."""

    pin_model: Flag = False
    """A request's model may name a concrete model, which then answers it."""
    deadline: Literal["TightenOnly", "Any"] = "TightenOnly"
    """What the header field x-bes-deadline-ms may do to one request's deadline."""


class Router(Part):
    """The data path."""

    replicas: Count = 1
    """Number of routers."""
    max_in_flight: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 512
    """Requests that one router holds at once; the next one is answered 429."""
    clients: Clients = Clients()
    """What clients may ask for beyond a task."""
    resources: Resources | None = None
    """Resources of a router; absent: as the operator is set."""
    pod: Pod | None = None
    """Shape of its pods."""


class ServiceSpec(Part):
    """What the service shall be. Lists are maps by name."""

    engine: Engine | None = None
    """The engine of every model that states none."""
    accelerator_groups: tuple[AcceleratorGroup, ...] = Field(default=(), max_length=32, json_schema_extra=BY_NAME)
    """GPUs that several models share."""
    models: tuple[Model, ...] = Field(min_length=1, max_length=64, json_schema_extra=BY_NAME)
    """Models that the service may answer with."""
    default_task: DottedName
    """The task of a request that names none."""
    tasks: tuple[Task, ...] = Field(min_length=1, max_length=64, json_schema_extra=BY_NAME)
    """What clients ask for."""
    load: Load | None = None
    """Where load figures come from; absent: the operator's default Prometheus, else the engines themselves."""
    router: Router = Router()
    """The data path."""
    policy: Policy = Policy()
    """What decides."""


class BestEffortService(Part):
    """One application: models, tasks, router and policy."""

    api_version: Literal["besteffort.dev/v1alpha1"]
    kind: Literal["BestEffortService"]
    metadata: Metadata
    spec: ServiceSpec
    """What the service shall be."""

    @property
    def name(self) -> str:
        """The service's name."""
        return self.metadata.name
