"""The emulated engine: batches as text-generation-inference does, speaks as vLLM does, needs no GPU."""

from bes_api.engines import text_generation_inference, vllm
from bes_api.engines.facts import EngineFacts
from bes_api.service import EngineType

FACTS = EngineFacts(
    type=EngineType.EMULATED,
    batching=text_generation_inference.FACTS.batching,
    prefill_token_budget=text_generation_inference.FACTS.prefill_token_budget,
    source="emulates text-generation-inference's batching",
    metrics=vllm.METRICS,
    errors=vllm.ERRORS,
    health_path=vllm.FACTS.health_path,
    program=None,
)
