"""The router's configuration: one versioned document, JSON or YAML, that says everything the router reads."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from bes_api.config_map import ROUTER_CONFIG
from bes_api.discovery_config import Discovery, EndpointSlices, StaticBackends
from bes_api.errors import ConfigurationError
from bes_api.handover import dump_document, load_document, parse_document
from bes_api.origins import Origin, PrometheusURL, origin_of
from bes_api.quantities import LabelName
from bes_api.scenario import Frozen, PositiveFloat, PositiveInt, Scenario

if TYPE_CHECKING:
    from bes_api.service import BestEffortService  # a router reads no resource: building its types would cost its start

Port = Annotated[int, Field(ge=0, le=65535)]
"""0 = any free port."""
Parameters = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


class Placement(StrEnum):
    """Which backend of the chosen model gets the request."""

    LEAST_LOADED = "LeastLoaded"
    LEAST_FINISH = "LeastFinish"
    BUNCHED = "Bunched"


class StaticPolicy(Frozen):
    """Always the same model."""

    type: Literal["Static"] = "Static"
    model: str
    placement: Placement = Placement.LEAST_LOADED
    gate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Requests per second at the whole service from which placement Bunched bunches."""


class DeadlineAwarePolicy(Frozen):
    """The best model whose predicted finish meets the deadline. ``parameters`` empty: the published defaults."""

    type: Literal["DeadlineAware"] = "DeadlineAware"
    parameters: Parameters = ()
    placement: Placement = Placement.LEAST_LOADED


class PricedPolicy(Frozen):
    """DeadlineAware with a congestion price and rate gates. ``parameters`` empty: the published defaults."""

    type: Literal["Priced"] = "Priced"
    parameters: Parameters = ()
    placement: Placement = Placement.LEAST_LOADED


class ThresholdPolicy(Frozen):
    """Load thresholds per task. ``parameters`` empty: the published defaults."""

    type: Literal["Threshold"] = "Threshold"
    parameters: Parameters = ()
    placement: Placement = Placement.LEAST_LOADED


class LearnedPolicy(Frozen):
    """The shared scorer over candidates; ``artifact`` is the folder that holds weights and passport."""

    type: Literal["Learned"] = "Learned"
    artifact: Path


class PaperPolicy(Frozen):
    """The paper's double DQN; ``artifact`` is the folder that holds weights and passport."""

    type: Literal["Paper"] = "Paper"
    artifact: Path


class DeliveredPolicy(Frozen):
    """Whatever artifact lies in the folder that the router was started with (`bes router --policy`), of either kind."""

    type: Literal["Delivered"] = "Delivered"


class OwnPolicy(Frozen):
    """A policy of somebody's own: the installed one of that name (entry points ``best_effort_serving.policies``)."""

    type: Literal["Own"] = "Own"
    name: str


RulePolicy = Annotated[StaticPolicy | DeadlineAwarePolicy | PricedPolicy | ThresholdPolicy, Field(discriminator="type")]
"""What needs no artifact and can therefore stand in for one."""
PolicyChoice = Annotated[
    StaticPolicy | DeadlineAwarePolicy | PricedPolicy | ThresholdPolicy | LearnedPolicy | PaperPolicy | OwnPolicy,
    Field(discriminator="type"),
]
ConfiguredPolicy = Annotated[
    StaticPolicy
    | DeadlineAwarePolicy
    | PricedPolicy
    | ThresholdPolicy
    | LearnedPolicy
    | PaperPolicy
    | OwnPolicy
    | DeliveredPolicy,
    Field(discriminator="type"),
]


class Listen(Frozen):
    """An address that the router binds."""

    host: str = "127.0.0.1"
    port: Port = 0


class DirectLoad(Frozen):
    """Load figures scraped from the engines' own /metrics."""

    type: Literal["Direct"] = "Direct"
    interval_seconds: PositiveFloat = 1.0
    stale_after_seconds: PositiveFloat | None = None
    """A figure older than this is unknown; absent: three intervals."""

    @property
    def stale_seconds(self) -> float:
        """See ``stale_after_seconds``."""
        return self.stale_after_seconds or 3.0 * self.interval_seconds


class PrometheusLoad(Frozen):
    """Load figures asked of a Prometheus; its origin must stand in the configuration's ``prometheus_origins``."""

    type: Literal["Prometheus"] = "Prometheus"
    url: PrometheusURL
    scrape_interval_seconds: PositiveFloat = 15.0
    """How often Prometheus scrapes the engines."""
    stale_after_seconds: PositiveFloat | None = None
    """A figure older than this is unknown; absent: three scrape intervals."""
    poll_interval_seconds: PositiveFloat | None = None
    """How often Prometheus is asked; absent: a quarter of the scrape interval, within 0.25 s and 1 s."""
    timeout_seconds: PositiveFloat | None = None
    """Of one question, which is never repeated; absent: the scrape interval, within 1 s and 5 s."""
    matchers: dict[LabelName, Annotated[str, Field(max_length=512)]] = Field(default={}, max_length=16)
    """Labels that the engines' series must have, beside the join label."""
    join_label: LabelName = "instance"
    """The label that tells engines apart; see ``BackendAddress.join``."""
    ca_file: Path | None = None
    """Certificates that an https server may show, PEM; absent: the bundle that comes with the router."""
    authorization_file: Path | None = None
    """A token, sent as ``Authorization: Bearer``, or a whole value such as ``Basic ...``; re-read when it changes."""

    @property
    def stale_seconds(self) -> float:
        """See ``stale_after_seconds``."""
        return self.stale_after_seconds or 3.0 * self.scrape_interval_seconds

    @property
    def poll_seconds(self) -> float:
        """See ``poll_interval_seconds``."""
        return self.poll_interval_seconds or min(1.0, max(0.25, self.scrape_interval_seconds / 4.0))

    @property
    def answer_seconds(self) -> float:
        """See ``timeout_seconds``."""
        return self.timeout_seconds or min(5.0, max(1.0, self.scrape_interval_seconds))


LoadSource = Annotated[DirectLoad | PrometheusLoad, Field(discriminator="type")]
"""Where load figures come from."""


class Limits(Frozen):
    """What a client may send and how long anything may take."""

    max_head_bytes: PositiveInt = 32 * 1024
    max_body_bytes: PositiveInt = 4 * 1024 * 1024
    head_timeout_seconds: PositiveFloat = 10.0
    """From a request's first byte to the end of its head."""
    body_timeout_seconds: PositiveFloat = 30.0
    idle_timeout_seconds: PositiveFloat = 75.0
    """A kept-alive connection without a request."""
    connect_timeout_seconds: PositiveFloat = 1.0
    """To an engine."""
    response_timeout_seconds: PositiveFloat = 120.0
    """From an engine's last byte to its next one."""
    propagation_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """From SIGTERM until nobody is accepted any more: so long others may take to hear that this router leaves."""
    drain_timeout_seconds: PositiveFloat = 30.0
    """From then until requests in flight are cut off."""


class Clients(Frozen):
    """What clients may ask for beyond a task."""

    pin_model: bool = False
    """A request's ``model`` may name a concrete model, which then answers it."""
    deadline: Literal["TightenOnly", "Any"] = "TightenOnly"
    """What x-bes-deadline-ms may do to one request's deadline."""


class RouterConfig(Frozen):
    """See the module."""

    version: Literal[1] = 1
    service: str
    """The service's name; it is also an alias of the default task in the request's ``model``."""
    listen: Listen = Listen()
    admin: Listen = Listen()
    """/healthz, /readyz and /metrics."""
    scenario: Scenario
    discovery: Discovery = StaticBackends()
    """Where the running engines are."""
    load: LoadSource = DirectLoad()
    prometheus_origins: tuple[Origin, ...] = ()
    """Allow-list: `scheme://host:port` that ``load`` may name. Whoever runs the router decides, not the service."""
    policy: ConfiguredPolicy
    fallback: RulePolicy = DeadlineAwarePolicy()
    """Decides while ``policy`` has no valid artifact."""
    limits: Limits = Limits()
    clients: Clients = Clients()
    explain_headers: bool = True
    """Answers carry x-bes-model, x-bes-task, x-bes-policy and x-bes-decision."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        replicas = {model.name: model.max_replicas for model in self.scenario.models}
        if isinstance(self.discovery, EndpointSlices):
            for engines in self.discovery.engines:
                if engines.model not in replicas:
                    raise ValueError(f"discovery: model {engines.model!r} is not in the scenario")
        else:
            for backend in self.discovery.backends:
                if backend.replica >= replicas.get(backend.model, 0):
                    raise ValueError(f"backend {backend.model!r} replica {backend.replica} is not in the scenario")
        for choice in (self.policy, self.fallback):
            if isinstance(choice, StaticPolicy) and choice.model not in replicas:
                raise ValueError(f"Static model {choice.model!r} is not in the scenario")
        return self

    @model_validator(mode="after")
    def _prometheus_may_be_asked(self) -> Self:
        if not isinstance(self.load, PrometheusLoad):
            return self
        origin = origin_of(self.load.url)
        if origin not in self.prometheus_origins:
            allowed = ", ".join(self.prometheus_origins) or "none"
            raise ValueError(f"load.url: {origin} may not be asked; add it to prometheus_origins (there: {allowed})")
        values: set[str] = set()
        for backend in self.discovery.backends if isinstance(self.discovery, StaticBackends) else ():
            if backend.joined_by in values:
                label = self.load.join_label
                raise ValueError(f"two backends have {label}={backend.joined_by!r}, so figures cannot tell them apart")
            values.add(backend.joined_by)
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read JSON or YAML. Raises ConfigurationError with file, field and expectation."""
        return load_document(cls, path)

    @classmethod
    def of_files(cls, files: Mapping[str, bytes], source: str) -> Self:
        """Parse the one document among ``files`` (a ConfigMap's data, or one file). Raises ConfigurationError."""
        name = next(iter(files)) if len(files) == 1 else ROUTER_CONFIG
        if name not in files:
            held = ", ".join(sorted(files)) or "nothing"
            raise ConfigurationError(f"{source}: expected the file {ROUTER_CONFIG}, there is {held}")
        return parse_document(cls, files[name], source, as_yaml=Path(name).suffix in {".yaml", ".yml"})

    def write(self, path: Path) -> None:
        """Write JSON, which ``read`` understands."""
        dump_document(self, path)


def clients_of(service: "BestEffortService") -> Clients:
    """What the resource lets clients ask for."""
    allowed = service.spec.router.clients
    return Clients(pin_model=allowed.pin_model, deadline=allowed.deadline)
