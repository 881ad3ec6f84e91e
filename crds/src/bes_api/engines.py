"""What a scenario must know of each engine type: how it batches, and how many prompt tokens one iteration takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bes_api.scenario import Batching
from bes_api.service import EngineType


@dataclass(frozen=True)
class EngineFacts:
    """Batching of one engine type as its project documents it."""

    batching: Batching
    prefill_token_budget: int
    source: str


ENGINES: Mapping[EngineType, EngineFacts] = MappingProxyType(
    {
        EngineType.TEXT_GENERATION_INFERENCE: EngineFacts(
            Batching.PREFILL_FIRST, 4096, "the launcher's documented default of --max-batch-prefill-tokens"
        ),
        EngineType.VLLM: EngineFacts(
            Batching.CHUNKED_PREFILL,
            2048,
            "chunked prefill with max_num_batched_tokens 2048, as this project studied it",
        ),
        EngineType.EMULATED: EngineFacts(Batching.PREFILL_FIRST, 4096, "emulates text-generation-inference"),
    }
)
