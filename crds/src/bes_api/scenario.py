"""A scenario: exactly what the simulator reads of a service, and the identity (content hash) of a training.

Simulator, emulated GPUs, router and report read placement, profiles and deadlines from here and from nowhere else.
Figure age, clock skew and the number of routers are drawn at random in every training and are therefore absent.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEARNER_MAJOR_VERSION = 1

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Frozen(BaseModel):
    """Base of every document that components hand each other: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Batching(StrEnum):
    """How an engine forms an iteration from waiting prompts and decoding sequences."""

    PREFILL_FIRST = "PrefillFirst"
    CHUNKED_PREFILL = "ChunkedPrefill"


class OnMiss(StrEnum):
    """What happens to a request whose deadline has passed."""

    FINISH = "Finish"
    ABORT = "Abort"


class Measure(StrEnum):
    """The instant that a deadline looks at."""

    COMPLETION = "Completion"
    FIRST_TOKEN = "FirstToken"  # noqa: S105 - a name, not a secret


class LatencyProfile(Frozen):
    """The latency formula's constants for one model on one GPU, all in milliseconds.

    A prefill iteration over ``n`` prompt tokens takes ``prefill_base + prefill_per_token * n``; a decode iteration of
    ``b`` sequences with ``c`` tokens of context together ``decode_base + decode_per_sequence * b +
    decode_per_context_token * c``. With chunked prefill one iteration does both and its base is the larger of the two.
    """

    prefill_base_ms: PositiveFloat
    prefill_per_token_ms: NonNegativeFloat
    decode_base_ms: PositiveFloat
    decode_per_sequence_ms: NonNegativeFloat
    decode_per_context_token_ms: NonNegativeFloat


class ScenarioModel(Frozen):
    """One model with its engine's limits; ``placement[i]`` is the GPU (index into ``Scenario.gpus``) of replica i."""

    name: str
    latency: LatencyProfile
    batching: Batching
    prefill_token_budget: PositiveInt
    """Prompt tokens that one iteration may hold; a longer prompt has an iteration of its own (or several chunks)."""
    max_batch_size: PositiveInt
    kv_cache_tokens: PositiveInt
    context_tokens: PositiveInt
    min_replicas: PositiveInt = 1
    placement: tuple[int, ...] = Field(min_length=1)

    @property
    def max_replicas(self) -> int:
        """Upper end of the replica range."""
        return len(self.placement)


class ScenarioGPU(Frozen):
    """One GPU. ``interference`` is the share of a neighbour's busy time that an iteration loses (1 = time-slicing)."""

    group: str | None = None
    interference: Fraction = 0.0


class ScenarioTask(Frozen):
    """One task. Reward is ``quality`` until ``full_until``, then falls linearly to 0 at ``zero_from`` (hard: equal)."""

    name: str
    full_until_seconds: PositiveFloat
    zero_from_seconds: PositiveFloat
    measure: Measure = Measure.COMPLETION
    on_miss: OnMiss = OnMiss.FINISH
    quality: dict[str, Fraction]
    """Quality per model name; a model that is absent is never eligible for this task."""
    prompt_tokens: PositiveInt
    output_tokens: PositiveInt


class Scenario(Frozen):
    """See the module. Models and tasks keep the order of the resource; that order is the order of every array."""

    version: Literal[1] = 1
    learner_version: int = LEARNER_MAJOR_VERSION
    gpus: tuple[ScenarioGPU, ...] = Field(min_length=1)
    models: tuple[ScenarioModel, ...] = Field(min_length=1)
    tasks: tuple[ScenarioTask, ...] = Field(min_length=1)
    default_task: str
    max_in_flight: PositiveInt = 512
    """Admission: requests that one router holds at once; the next one is answered 429."""
    workload: Literal["RandomWalk"] = "RandomWalk"
    training_revision: int = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [model.name for model in self.models]
        for model in self.models:
            if any(not 0 <= gpu < len(self.gpus) for gpu in model.placement):
                raise ValueError(f"model {model.name!r} is placed on a GPU that the scenario does not have")
            if model.min_replicas > model.max_replicas:
                raise ValueError(f"model {model.name!r}: min_replicas above the number of placed replicas")
        for task in self.tasks:
            if task.zero_from_seconds < task.full_until_seconds:
                raise ValueError(f"task {task.name!r}: zero_from_seconds is before full_until_seconds")
            if unknown := set(task.quality) - set(names):
                raise ValueError(f"task {task.name!r} states quality for unknown models {sorted(unknown)}")
        if self.default_task not in {task.name for task in self.tasks}:
            raise ValueError(f"default_task {self.default_task!r} is not a task")
        return self

    def content_hash(self) -> str:
        """``sha256:`` of the canonical JSON: the same scenario is never trained twice."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()
