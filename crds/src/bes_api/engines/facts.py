"""What is known of a model server's program: one value per engine type, facts with their source and pure functions.

Nothing here starts an engine or knows Kubernetes; manifests are rendered from these values elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bes_api.scenario import Batching
from bes_api.service import EngineType


@dataclass(frozen=True)
class Image:
    """An image by full release tag, as the engine's own documentation names it."""

    reference: str
    source: str


@dataclass(frozen=True)
class Metrics:
    """Names on the engine's metrics page."""

    running: str
    """Gauge: requests in the engine's batch."""
    waiting: str
    """Gauge: requests in its queue."""
    finished: str
    """Counter: requests that ended well; several series of it (by label) add up."""
    source: str
    path: str = "/metrics"

    @property
    def in_flight(self) -> tuple[str, str]:
        """Gauges whose sum is the engine's requests in flight."""
        return self.running, self.waiting


@dataclass(frozen=True)
class Probe:
    """One HTTP probe."""

    path: str
    period_seconds: int
    failures: int
    """Failures in a row after which the probe counts as failed."""
    timeout_seconds: int = 5


@dataclass(frozen=True)
class Probes:
    """How to see that an engine has loaded, serves and lives."""

    startup: Probe
    """Slow loading: nothing else is asked before it has succeeded once."""
    readiness: Probe
    liveness: Probe
    source: str


class Case(StrEnum):
    """Occasions on which an engine answers with an error."""

    INVALID = "invalid"
    """A field is missing or wrong."""
    TOO_LONG = "too-long"
    """Prompt and answer exceed the context."""
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_PATH = "unknown-path"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    """Generation failed inside the engine."""
    UNHEALTHY = "unhealthy"
    """Its health page, while the engine is down behind a server that still answers."""


@dataclass(frozen=True)
class ErrorAnswer:
    """Status and body of one error; ``kind`` is the error's type in the body, None where the body is empty."""

    status: int
    kind: str | None
    message: str | None
    """The documented text; None where it depends on the request."""


@dataclass(frozen=True)
class Errors:
    """Every documented error. ``body`` writes one: status, kind and message to the object that JSON is made of."""

    answers: Mapping[Case, ErrorAnswer]
    body: Callable[[int, str, str], Mapping[str, object]]
    source: str


@dataclass(frozen=True)
class Weights:
    """Where an engine keeps downloaded weights, and what tells it the hub's token."""

    cache_path: str
    """Where the cache is mounted."""
    cache_variable: str
    """Environment variable that names the cache's path."""
    token_variable: str
    source: str


@dataclass(frozen=True)
class Launch:
    """What one engine is asked to serve."""

    model_id: str
    served_name: str
    context_tokens: int
    max_batch_size: int
    revision: str | None = None
    """None: the hub's default branch."""
    chat_template: str | None = None
    """Path of the mounted chat template's file inside the container; None: the model brings its own."""
    more: tuple[str, ...] = ()
    """Further arguments as the resource states them (tensor parallelism, quantization), last so that they win."""


@dataclass(frozen=True)
class ChatTemplateFile:
    """A chat template as this engine takes it from a file."""

    name: str
    content: Callable[[], str]


@dataclass(frozen=True)
class Program:
    """What it takes to start a real engine in a container."""

    image: Image
    port: int
    arguments: Callable[[Launch], tuple[str, ...]]
    arguments_source: str
    probes: Probes
    weights: Weights
    chat_template: ChatTemplateFile
    loading: str
    """What a client sees while the model loads, with its source."""


@dataclass(frozen=True)
class EngineFacts:
    """One engine type."""

    type: EngineType
    batching: Batching
    prefill_token_budget: int
    """Prompt tokens that one iteration may hold; the arguments say so explicitly where there is a program."""
    source: str
    """Where batching and budget come from."""
    metrics: Metrics
    errors: Errors
    health_path: str
    program: Program | None
    """None: `bes engine` hosts every emulated engine of a GPU in one process."""
