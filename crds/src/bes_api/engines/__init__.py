"""Engine types: batching for the scenario, and what a real engine's project documents of it, one file per engine."""

from collections.abc import Mapping
from types import MappingProxyType

from bes_api.engines import emulated, text_generation_inference, vllm
from bes_api.engines.facts import EngineFacts
from bes_api.service import EngineType, ServiceSpec

ENGINES: Mapping[EngineType, EngineFacts] = MappingProxyType(
    {facts.type: facts for facts in (text_generation_inference.FACTS, vllm.FACTS, emulated.FACTS)}
)


def engine_types(spec: ServiceSpec) -> Mapping[str, EngineType]:
    """Engine type per model name; models for which the service states none are left out (a rule refuses that)."""
    stated = {model.name: model.engine or spec.engine for model in spec.models}
    return {name: engine.type for name, engine in stated.items() if engine is not None}
