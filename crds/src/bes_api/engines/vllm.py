"""vLLM, as its documentation and sources of the pinned release describe it."""

from collections.abc import Mapping
from types import MappingProxyType

from bes_api.engines.chat_template import jinja_file
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

PORT = 8000
TOKEN_BUDGET = 2048
_HEALTH = "/health"


def arguments(launch: Launch) -> tuple[str, ...]:
    """Arguments of the image, whose entry point is the OpenAI-compatible server."""
    given = ["--model", launch.model_id, "--served-model-name", launch.served_name, "--port", str(PORT)]
    if launch.revision is not None:
        given += ["--revision", launch.revision]
    given += ["--max-model-len", str(launch.context_tokens), "--max-num-seqs", str(launch.max_batch_size)]
    # A batch larger than the budget is refused at start: every decoding sequence takes one token of it.
    given += ["--max-num-batched-tokens", str(max(TOKEN_BUDGET, launch.max_batch_size))]
    if launch.chat_template is not None:
        given += ["--chat-template", launch.chat_template]
    return (*given, *launch.more)


def error_body(status: int, kind: str, message: str) -> Mapping[str, object]:
    """An error as vLLM words it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


METRICS = Metrics(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    finished="vllm:request_success_total",
    source="docs.vllm.ai/en/stable/usage/metrics (General Metrics)",
)
ERRORS = Errors(
    answers=MappingProxyType(
        {
            Case.INVALID: ErrorAnswer(400, "BadRequestError", None),
            Case.TOO_LONG: ErrorAnswer(400, "BadRequestError", None),
            Case.UNKNOWN_MODEL: ErrorAnswer(404, "NotFoundError", None),
            Case.UNKNOWN_PATH: ErrorAnswer(404, "Not Found", "Not Found"),
            # No limit on waiting requests is documented: 503 is what the server says while it cannot take any.
            Case.OVERLOADED: ErrorAnswer(503, "Service Unavailable", None),
            Case.FAILED: ErrorAnswer(500, "InternalServerError", None),
            Case.UNHEALTHY: ErrorAnswer(503, None, None),
        }
    ),
    body=error_body,
    source="ErrorInfo and ErrorResponse in vllm/entrypoints/openai/protocol.py, handlers in api_server.py",
)
PROGRAM = Program(
    image=Image("vllm/vllm-openai:v0.11.0", "docs/deployment/docker.md of vllm-project/vllm at 275de341"),
    port=PORT,
    arguments=arguments,
    arguments_source="docs.vllm.ai: vllm serve, engine arguments; --chat-template: OpenAI-compatible server",
    probes=Probes(
        startup=Probe(_HEALTH, period_seconds=5, failures=360),
        readiness=Probe(_HEALTH, period_seconds=5, failures=3),
        liveness=Probe(_HEALTH, period_seconds=10, failures=3),
        source="docs/deployment/k8s.md (path and periods; its troubleshooting asks for a larger failureThreshold while "
        "a model loads: half an hour is this project's choice)",
    ),
    weights=Weights(
        "/models",
        "HF_HOME",
        "HF_TOKEN",
        "docs/deployment/docker.md (token; its own place for the cache is the image's user's home); HF_HOME: "
        "huggingface.co/docs/huggingface_hub/package_reference/environment_variables",
    ),
    chat_template=ChatTemplateFile("chat_template.jinja", jinja_file),
    loading="connections are refused: setup_server in vllm/entrypoints/openai/api_server.py binds the port before the "
    "engine is set up and listens after it",
)
FACTS = EngineFacts(
    type=EngineType.VLLM,
    batching=Batching.CHUNKED_PREFILL,
    prefill_token_budget=TOKEN_BUDGET,
    source="chunked prefill under max_num_batched_tokens (docs/configuration/optimization.md); the arguments set it",
    metrics=METRICS,
    errors=ERRORS,
    health_path=_HEALTH,
    program=PROGRAM,
)
