"""The router's configuration: one versioned document, JSON or YAML, that says everything the router reads."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bes_api.config_map import ROUTER_CONFIG
from bes_api.errors import ConfigurationError
from bes_api.handover import dump_document, load_document, parse_document
from bes_api.scenario import Frozen, PositiveFloat, PositiveInt, Scenario

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


class BackendAddress(Frozen):
    """One running engine: replica ``replica`` of ``model`` (its GPU is ``placement[replica]`` of the scenario)."""

    model: str
    replica: Annotated[int, Field(ge=0)]
    address: str
    port: Annotated[int, Field(gt=0, le=65535)]
    served_model: str
    """The name under which the engine serves the model; spliced into the request's body."""
    health_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=256)] = "/health"
    """Answers 2xx while the engine can serve, and something else while it loads."""


class DirectLoad(Frozen):
    """Load figures scraped from the engines' own /metrics."""

    interval_seconds: PositiveFloat = 1.0
    stale_after_seconds: PositiveFloat = 3.0
    """A figure older than this is unknown."""
    metrics: tuple[str, ...] = Field(default=("vllm:num_requests_running", "vllm:num_requests_waiting"), min_length=1)
    """Gauges of the engine whose sum is its requests in flight."""


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
    drain_timeout_seconds: PositiveFloat = 30.0
    """From SIGTERM until requests in flight are cut off."""


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
    backends: tuple[BackendAddress, ...] = ()
    load: DirectLoad = DirectLoad()
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
        seen: set[tuple[str, int]] = set()
        for backend in self.backends:
            if backend.replica >= replicas.get(backend.model, 0):
                raise ValueError(f"backend {backend.model!r} replica {backend.replica} is not in the scenario")
            if (backend.model, backend.replica) in seen:
                raise ValueError(f"backend {backend.model!r} replica {backend.replica} is listed twice")
            seen.add((backend.model, backend.replica))
        for choice in (self.policy, self.fallback):
            if isinstance(choice, StaticPolicy) and choice.model not in replicas:
                raise ValueError(f"Static model {choice.model!r} is not in the scenario")
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
