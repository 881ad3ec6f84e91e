"""text-generation-inference, as its documentation and sources describe it. In maintenance: it runs as published."""

from collections.abc import Mapping
from types import MappingProxyType

from bes_api.engines.chat_template import tokenizer_config_file
from bes_api.engines.facts import (
    Case,
    ChatTemplateFile,
    EngineFacts,
    ErrorAnswer,
    Errors,
    Image,
    Launch,
    Metrics,
    Probe,
    Probes,
    Program,
    Weights,
)
from bes_api.scenario import Batching
from bes_api.service import EngineType

PORT = 80
PREFILL_TOKENS = 4096
MAX_CONCURRENT_REQUESTS = 128
"""Prompts that the launcher lets in by default."""
HELD_BATCHES = 16
"""The routers' admission bounds what waits; the engine's own limit must lie behind it."""
_HEALTH = "/health"


def arguments(launch: Launch) -> tuple[str, ...]:
    """Arguments of the image, whose entry point is text-generation-launcher. It serves under its model id alone."""
    given = ["--model-id", launch.model_id, "--port", str(PORT)]
    if launch.revision is not None:
        given += ["--revision", launch.revision]
    given += ["--max-input-tokens", str(launch.context_tokens - 1), "--max-total-tokens", str(launch.context_tokens)]
    given += ["--max-batch-prefill-tokens", str(max(PREFILL_TOKENS, launch.context_tokens))]
    given += ["--max-batch-size", str(launch.max_batch_size)]
    given += ["--max-concurrent-requests", str(most_requests(launch.max_batch_size))]
    if launch.chat_template is not None:
        given += ["--tokenizer-config-path", launch.chat_template]
    return (*given, *launch.more)


def most_requests(max_batch_size: int) -> int:
    """Prompts that the engine holds; it answers the next one that it is overloaded."""
    return max(MAX_CONCURRENT_REQUESTS, HELD_BATCHES * max_batch_size)


def error_body(_status: int, kind: str, message: str) -> Mapping[str, object]:
    """An error as text-generation-inference words it; the status is not part of the body."""
    return {"error": message, "error_type": kind}


METRICS = Metrics(
    running="tgi_batch_current_size",
    waiting="tgi_queue_size",
    finished="tgi_request_success",
    source="docs/source/reference/metrics.md",
)
ERRORS = Errors(
    answers=MappingProxyType(
        {
            Case.INVALID: ErrorAnswer(422, "validation", None),
            Case.TOO_LONG: ErrorAnswer(422, "validation", None),
            Case.OVERLOADED: ErrorAnswer(429, "overloaded", "Model is overloaded"),
            Case.FAILED: ErrorAnswer(424, "generation", None),
            Case.UNHEALTHY: ErrorAnswer(503, "healthcheck", "unhealthy"),
        }
    ),
    body=error_body,
    source="docs/openapi.json (responses, ErrorResponse); types: InferError in router/src/infer/mod.rs. The request's "
    "`model` is unused, so no answer for an unknown one exists; an unknown path has an empty 404 of the web framework",
)
PROGRAM = Program(
    image=Image(
        "ghcr.io/huggingface/text-generation-inference:3.3.5",
        "huggingface.co/docs/text-generation-inference/quicktour",
    ),
    port=PORT,
    arguments=arguments,
    arguments_source="docs/source/reference/launcher.md",
    probes=Probes(
        startup=Probe(_HEALTH, period_seconds=5, failures=360),
        readiness=Probe(_HEALTH, period_seconds=5, failures=3),
        liveness=Probe(_HEALTH, period_seconds=10, failures=3),
        source="docs/openapi.json (path); periods and half an hour for loading are this project's choice",
    ),
    weights=Weights(
        "/data",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "docs/source/quicktour.md (volume), reference/launcher.md (variable), basic_tutorials/gated_model_access.md "
        "(token; HUGGING_FACE_HUB_TOKEN in old releases)",
    ),
    chat_template=ChatTemplateFile("tokenizer_config.json", tokenizer_config_file),
    loading="connections are refused: launcher/src/main.rs starts the web server after every shard is ready",
)
FACTS = EngineFacts(
    type=EngineType.TEXT_GENERATION_INFERENCE,
    batching=Batching.PREFILL_FIRST,
    prefill_token_budget=PREFILL_TOKENS,
    source="docs/source/reference/launcher.md: waiting prompts pause the running batch for a prefill of at most "
    "--max-batch-prefill-tokens; the arguments set it",
    metrics=METRICS,
    errors=ERRORS,
    health_path=_HEALTH,
    program=PROGRAM,
)
