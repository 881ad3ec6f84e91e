"""Where a router finds the running engines: in a list, or by Kubernetes' EndpointSlices."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bes_api.scenario import Frozen

MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
ServiceName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""DNS-1035, as Services are named."""
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""DNS-1123, as namespaces and ports are named."""


class EngineManner(Frozen):
    """How the engines of ``model`` are spoken to."""

    model: str
    served_model: str
    """The name under which the engine serves the model; spliced into the request's body."""
    health_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=256)] = "/health"
    """Answers 2xx while the engine can serve, and something else while it loads."""
    gauges: tuple[MetricName, ...] = Field(
        default=("vllm:num_requests_running", "vllm:num_requests_waiting"), min_length=1, max_length=8
    )
    """Gauges of the engine whose sum is its requests in flight."""
    finished: MetricName | None = "vllm:request_success_total"
    """Counter of the engine's finished requests, summed over its series; None: it has none."""


class BackendAddress(EngineManner):
    """One running engine: replica ``replica`` of ``model`` (its GPU is ``placement[replica]`` of the scenario)."""

    replica: Annotated[int, Field(ge=0)]
    address: str
    port: Annotated[int, Field(gt=0, le=65535)]
    join: str | None = Field(default=None, min_length=1, max_length=512)
    """The value of the join label on this engine's series; absent: ``address:port``, as `instance` has it."""

    @property
    def joined_by(self) -> str:
        """See ``join``."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return self.join or f"{host}:{self.port}"


class StaticBackends(Frozen):
    """A list that changes only with the configuration."""

    type: Literal["Static"] = "Static"
    backends: tuple[BackendAddress, ...] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        seen: set[tuple[str, int]] = set()
        for backend in self.backends:
            if (backend.model, backend.replica) in seen:
                raise ValueError(f"backend {backend.model!r} replica {backend.replica} is listed twice")
            seen.add((backend.model, backend.replica))
        return self


class ServedModel(EngineManner):
    """The pods of one model: the endpoints of ``service``."""

    service: ServiceName
    port_name: Label = "http"
    """The engines' port, as the Service names it."""


class EndpointSlices(Frozen):
    """Pods that Services select: EndpointSlices of ``namespace`` are watched. Who asks is the pod's own account.

    A pod takes a free replica of its model's range while it lives; more pods than replicas wait. Its series carry its
    name in the join label of ``load``, or ``address:port`` where that label is `instance`.
    """

    type: Literal["EndpointSlices"] = "EndpointSlices"
    namespace: Label
    engines: tuple[ServedModel, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        for name, values in (
            ("model", [engines.model for engines in self.engines]),
            ("service", [engines.service for engines in self.engines]),
        ):
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"{name} {min(twice)!r} is listed twice")
        return self


Discovery = Annotated[StaticBackends | EndpointSlices, Field(discriminator="type")]
"""Where running engines are found."""
