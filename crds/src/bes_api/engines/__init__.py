"""Engine types: batching for the scenario, and what a real engine's project documents of it, one file per engine."""

from collections.abc import Mapping
from types import MappingProxyType

from bes_api.engines import emulated, text_generation_inference, vllm
from bes_api.engines.facts import EngineFacts
from bes_api.resolved_engine import engine_of
from bes_api.service import EngineType, ServiceSpec

ENGINES: Mapping[EngineType, EngineFacts] = MappingProxyType(
    {facts.type: facts for facts in (text_generation_inference.FACTS, vllm.FACTS, emulated.FACTS)}
)


def engine_types(spec: ServiceSpec) -> Mapping[str, EngineType]:
    """Engine type per model name. Raises ScenarioError where a model has none (a rule refuses that)."""
    return {model.name: engine_of(spec, model).type for model in spec.models}
