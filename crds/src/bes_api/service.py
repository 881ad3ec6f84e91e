"""The resource `BestEffortService` as users write it (besteffort.dev/v1alpha1): its form, and nothing computed.

Rules across fields are in ``rules``. No field is here before code honours it. A union goes by the member that is set.
"""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bes_api.origins import PrometheusURL
from bes_api.quantities import (
    DataKey,
    DecimalString,
    DeviceClass,
    DottedName,
    Duration,
    Label,
    LabelName,
    ModelID,
    ObjectName,
)

GROUP = "besteffort.dev"
VERSION = "v1alpha1"
KIND = "BestEffortService"
API_VERSION = "besteffort.dev/v1alpha1"
DEFAULT_INTERVAL = timedelta(seconds=1)
DEFAULT_MARGIN = Decimal("0.01")

# Upper ends keep integers inside int64, lists inside the cost budget of rules, and mistakes of the keyboard out.
Count = Annotated[int, Field(strict=True, ge=1, le=1024)]
Tokens = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Decisions = Annotated[int, Field(strict=True, ge=1_000, le=1_000_000_000)]
Revision = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


class Part(BaseModel):
    """Base of every object in the resource: frozen, camelCase, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class EngineType(StrEnum):
    """The program that serves a model."""

    VLLM = "VLLM"
    TEXT_GENERATION_INFERENCE = "TextGenerationInference"
    EMULATED = "Emulated"


class Sharing(StrEnum):
    """How models on one GPU share it."""

    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"


class RuleType(StrEnum):
    """Policies that are rules: they need no training and can stand in for a learned one."""

    PRICED = "Priced"
    THRESHOLD = "Threshold"
    DEADLINE_AWARE = "DeadlineAware"
    STATIC = "Static"


class PolicyType(StrEnum):
    """Every policy that may decide."""

    LEARNED = "Learned"
    PRICED = "Priced"
    THRESHOLD = "Threshold"
    DEADLINE_AWARE = "DeadlineAware"
    STATIC = "Static"


class Learner(StrEnum):
    """How a policy is found; Auto trains by both and keeps what validates best."""

    AUTO = "Auto"
    EVOLUTION = "Evolution"
    DQN = "DQN"


class Metadata(BaseModel):
    """Kubernetes' own object metadata; only the name is read here, the rest is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str


class Engine(Part):
    """The engine of every model, or of one model."""

    type: EngineType


class AcceleratorGroup(Part):
    """GPUs that several models share: replica i of every model of the group sits on GPU i mod ``gpus``."""

    name: Label
    device_class: DeviceClass = Field(alias="class")
    gpus: Count
    sharing: Sharing = Sharing.TIME_SLICING
    interference_percent: Percent | None = None
    """Share of a neighbour's busy time that a step loses; absent: 100 with TimeSlicing. MPS needs a measured figure."""


class ReplicaRange(Part):
    """Someone else scales the model inside this range."""

    min: Count
    max: Count


class Accelerator(Part):
    """A model's place in a group."""

    group: Label
    memory_percent: Annotated[int, Field(strict=True, ge=1, le=100)]
    """Memory of one GPU that one replica takes."""


class ConfigMapReference(Part):
    """A ConfigMap beside the service, by name."""

    name: ObjectName


class Profile(Part):
    """Where a model's latency profile comes from: exactly one member."""

    preset: DottedName | None = None
    config_map_ref: ConfigMapReference | None = None


class Model(Part):
    """One model that the service may answer with."""

    name: DottedName
    model_id: ModelID = Field(alias="modelID")
    replicas: Count | None = None
    replica_range: ReplicaRange | None = None
    context_tokens: Tokens
    max_batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)] | None = None
    """Sequences in one iteration; absent: the profile's."""
    accelerator: Accelerator | None = None
    """Absent: every replica has a GPU of its own."""
    profile: Profile | None = None
    """Absent: the preset of ``modelID``."""
    engine: Engine | None = None
    """Absent: the service's."""

    @property
    def max_replicas(self) -> int:
        """Replicas at most; 0 where neither ``replicas`` nor ``replicaRange`` is set."""
        return self.replica_range.max if self.replica_range else self.replicas or 0


class HardDeadline(Part):
    """Full quality until the instant, nothing after it."""

    within: Duration


class SoftDeadline(Part):
    """Full quality until ``fullUntil``, then less, and nothing from ``zeroFrom``."""

    full_until: Duration
    zero_from: Duration
    shape: Literal["Linear"] = "Linear"


class Deadline(Part):
    """When an answer is worth how much: exactly one of ``hard`` and ``soft``."""

    hard: HardDeadline | None = None
    soft: SoftDeadline | None = None
    measure: Literal["Completion", "FirstToken"] = "Completion"
    """What must come in time: the answer's last byte, or the first one of its body."""
    on_miss: Literal["Finish", "Abort"] = "Finish"
    """Abort: once nothing can be earned any more the engine stops working on it, and the client gets 504 (a stream that
    has begun: an error event). With FirstToken, only while no token has come."""


class TypicalTokens(Part):
    """Lengths of a typical request, for training and prediction."""

    prompt: Tokens
    output: Tokens


class Task(Part):
    """One task: a virtual model to clients."""

    name: DottedName
    deadline: Deadline
    quality: dict[DottedName, DecimalString] = Field(min_length=1, max_length=64)
    """Quality in 0..1 per model; a model that is absent never answers this task."""
    tokens: TypicalTokens


class DirectLoad(Part):
    """Load figures from the engines' own metrics pages."""

    interval: Duration


class CertificateReference(Part):
    """Certificates (PEM) under a key of a ConfigMap beside the service."""

    name: ObjectName
    key: DataKey = "ca.crt"


class SecretReference(Part):
    """A value under a key of a Secret beside the service."""

    name: ObjectName
    key: DataKey = "token"


class PrometheusLoad(Part):
    """Load figures from a Prometheus that scrapes the engines. Metric names are the engines' business."""

    url: PrometheusURL
    scrape_interval: Duration
    """How often it scrapes the engines."""
    matchers: dict[LabelName, Annotated[str, Field(max_length=256)]] = Field(default={}, max_length=16)
    """Labels that the engines' series must have, beside ``joinLabel``."""
    join_label: LabelName = "pod"
    """The label that names an engine's pod."""
    ca_config_map_ref: CertificateReference | None = None
    """Certificates that an https server may show."""
    authorization_secret_ref: SecretReference | None = None
    """A token, sent as `Authorization: Bearer`, or a whole value such as `Basic ...`."""


class Load(Part):
    """Where load figures come from: exactly one source."""

    direct: DirectLoad | None = None
    prometheus: PrometheusLoad | None = None
    stale_after: Duration | None = None
    """A figure older than this is unknown; absent: three (scrape) intervals."""


class Clients(Part):
    """What clients may ask for beyond a task."""

    pin_model: Annotated[bool, Field(strict=True)] = False
    """A request's ``model`` may name a concrete model, which then answers it."""
    deadline: Literal["TightenOnly", "Any"] = "TightenOnly"
    """What the header field x-bes-deadline-ms may do to one request's deadline."""


class Router(Part):
    """The data path."""

    replicas: Count = 1
    max_in_flight: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 512
    """Requests that one router holds at once; the next one is answered 429."""
    clients: Clients = Clients()


class StaticSettings(Part):
    """Always this model."""

    model: DottedName


class Fallback(Part):
    """The rule that decides while there is no valid policy."""

    type: RuleType = RuleType.DEADLINE_AWARE
    static: StaticSettings | None = None


class WorkloadSource(Part):
    """Traffic to train on."""

    preset: Literal["RandomWalk"] = "RandomWalk"


class Training(Part):
    """How a policy is trained; a new ``revision`` asks for a new training of the same scenario."""

    learner: Learner = Learner.AUTO
    decisions: Decisions = 1_200_000
    seeds: Annotated[int, Field(strict=True, ge=1, le=16)] = 3
    revision: Revision = 1
    workload: WorkloadSource = WorkloadSource()


class PolicySource(Part):
    """Where a learned policy comes from: exactly one member."""

    training: Training | None = None


class Promotion(Part):
    """When a candidate may decide."""

    margin: DecimalString = DEFAULT_MARGIN
    """Performance that a candidate may lie below the best rule, as a share of peak."""


class Policy(Part):
    """What decides."""

    type: PolicyType = PolicyType.LEARNED
    static: StaticSettings | None = None
    fallback: Fallback = Fallback()
    source: PolicySource = PolicySource(training=Training())
    promotion: Promotion = Promotion()


class ServiceSpec(Part):
    """What the service shall be. Lists are maps by name."""

    engine: Engine | None = None
    accelerator_groups: tuple[AcceleratorGroup, ...] = Field(default=(), max_length=32)
    models: tuple[Model, ...] = Field(min_length=1, max_length=64)
    default_task: DottedName
    tasks: tuple[Task, ...] = Field(min_length=1, max_length=64)
    load: Load = Load(direct=DirectLoad(interval=DEFAULT_INTERVAL))
    router: Router = Router()
    policy: Policy = Policy()


class BestEffortService(Part):
    """One application: models, tasks, router and policy."""

    api_version: Literal["besteffort.dev/v1alpha1"]
    kind: Literal["BestEffortService"]
    metadata: Metadata
    spec: ServiceSpec

    @property
    def name(self) -> str:
        """The service's name."""
        return self.metadata.name
