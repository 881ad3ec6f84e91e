"""What an operator is told once, at its start: `settings_sources` reads it from flags, environment and file.

Nothing in this package reads the environment otherwise: whoever needs a setting gets it as an argument.
"""

import socket
import uuid
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bes_api.origins import Origin, PrometheusURL, origin_of
from bes_api.service.pod import PodPlace

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Images(_Part):
    """Full references, as a kubelet pulls them."""

    router: Text
    """Of `python -m bes_router`."""
    training: Text
    """Of `python -m bes_training`."""
    engine: Text
    """Of `python -m bes_lab.engine`, for models whose engine is Emulated."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Of our own images; engines' images follow Kubernetes' default."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets in the service's namespace from which our own images are pulled; empty: none."""


class Resources(_Part):
    """Requests and limits of a container, as Kubernetes writes quantities."""

    requests: dict[str, str] = Field(default_factory=dict)
    """By resource name; empty: whatever the namespace's LimitRange says."""
    limits: dict[str, str] = Field(default_factory=dict)
    """By resource name; empty: none."""


class Backoff(_Part):
    """How long a failed pass waits before the next: doubling, each time between half and the whole of it."""

    first_seconds: Seconds = 0.5
    """After the first failure."""
    cap_seconds: Seconds = 30.0
    """At most; an API server that is back is asked again within this time."""


class Leadership(_Part):
    """Which of several operators may write: the holder of a Lease (coordination.k8s.io/v1)."""

    enabled: bool = True
    """False: this operator writes at once. Only where there can never be a second one."""
    lease: Text = "best-effort-serving-operator"
    """Name of the Lease, in the operator's own namespace."""
    identity: Text = Field(default_factory=lambda: f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}")
    """Who this operator is: differs among all that share the Lease, and from one start to the next."""
    duration_seconds: Annotated[float, Field(ge=1, le=3600, multiple_of=1)] = 15.0
    """How long others wait after the last renewal that they saw; whole seconds, as the API has it."""
    renew_deadline_seconds: Seconds = 10.0
    """How long after its last renewal a leader goes on writing; the rest of the duration is for what is on its way."""
    retry_seconds: Seconds = 2.0
    """Between two tries to renew, or to become the leader."""

    @model_validator(mode="after")
    def _fenced(self) -> "Leadership":
        if not self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError("retry_seconds < renew_deadline_seconds < duration_seconds is needed; mend one of them")
        return self


class OperatorSettings(_Part):
    """See the module."""

    namespace: Text
    """The operator's own namespace: its Lease lies there."""
    watch_namespaces: tuple[Text, ...] = ()
    """Namespaces whose services this operator makes real; empty: all."""
    images: Images
    """Images of what the operator starts."""
    router_resources: Resources = Resources(requests={"cpu": "250m", "memory": "192Mi"}, limits={"memory": "512Mi"})
    """Of each router pod."""
    training_resources: Resources = Resources(requests={"cpu": "1", "memory": "1Gi"}, limits={"memory": "4Gi"})
    """Of each training pod."""
    training_pod: PodPlace = PodPlace()
    """Where training pods run, as Kubernetes writes it; of Jobs that are made from then on."""
    max_trainings: Annotated[int, Field(ge=1)] = 2
    """Training Jobs at once, over all services; the others wait."""
    training_deadline_seconds: Seconds = 86_400.0
    """How long one training Job may run before it counts as lost."""
    router_role: Text = "best-effort-serving-router"
    """ClusterRole that routers are bound to in their namespace: reads EndpointSlices."""
    training_role: Text = "best-effort-serving-training"
    """ClusterRole that training pods are bound to in their namespace: creates ConfigMaps."""

    default_prometheus_url: PrometheusURL | None = None
    """Prometheus of services that name none; None: their routers ask the engines themselves."""
    default_prometheus_scrape_seconds: Seconds = 15.0
    """How often that Prometheus scrapes."""
    prometheus_origins: Annotated[tuple[Origin, ...], Field(validate_default=True)] = ()
    """Origins (scheme, host, port) that services may name; the default Prometheus' is always among them."""

    resync_seconds: Seconds = 300.0
    """Between two lists of everything, after each of which every service is reconciled."""
    request_timeout_seconds: Seconds = 20.0
    """Of one request to the API server, from sending to the last byte."""
    page_size: Annotated[int, Field(ge=1)] = 500
    """Objects in one page of a list."""
    workers: Annotated[int, Field(ge=1)] = 4
    """Services reconciled at once."""
    backoff: Backoff = Backoff()
    """Of failed passes, and of the watch when the API server refuses it."""

    router_poll_seconds: Seconds = 30.0
    """Between two questions to each ready router for its /status."""
    router_poll_timeout_seconds: Seconds = 5.0
    """Of one such question."""
    status_write_seconds: Seconds = 600.0
    """Between two writes of a status in which only served figures moved."""
    status_hysteresis: Annotated[float, Field(ge=0, le=1)] = 0.01
    """By how much a served figure (a fraction) must move before it is written again."""
    shadow_seconds: Seconds | None = None
    """How long a candidate stays in shadow, whatever the service says; None: as the service says."""

    leadership: Leadership = Leadership()
    """Who may write where several operators run."""
    health_host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes and Prometheus scrapes a pod by its address
    """Address of /metrics, /healthz and /readyz."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of the same; 0: any that is free."""
    log_format: Literal["json", "plain"] = "json"
    """One JSON object a line, or plain text for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe records that are written."""
    kubeconfig: Path | None = None
    """Credentials; None: the pod's service account, or outside a pod KUBECONFIG and ~/.kube/config."""

    @field_validator("prometheus_origins")
    @classmethod
    def _with_the_default(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        url = info.data.get("default_prometheus_url")
        return origins if url is None else tuple(dict.fromkeys((*origins, origin_of(url))))
