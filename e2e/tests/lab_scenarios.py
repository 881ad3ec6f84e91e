"""Scenarios for the lab's tests: the OPT sizes with round constants, on as many GPUs as a test needs."""

from bes_api.scenario import Batching, LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask

SMALL = LatencyProfile(
    prefill_base_ms=3.0,
    prefill_per_token_ms=0.003,
    decode_base_ms=1.2,
    decode_per_sequence_ms=0.004,
    decode_per_context_token_ms=0.00006,
)
LARGE = LatencyProfile(
    prefill_base_ms=14.52,
    prefill_per_token_ms=0.07201,
    decode_base_ms=10.321,
    decode_per_sequence_ms=0.02,
    decode_per_context_token_ms=0.000565,
)


def model(name: str, latency: LatencyProfile, gpus: int, **more: object) -> ScenarioModel:
    fields = {
        "batching": Batching.PREFILL_FIRST,
        "prefill_token_budget": 4096,
        "max_batch_size": 64,
        "kv_cache_tokens": 60_000,
        "context_tokens": 2048,
        "placement": tuple(range(gpus)),
    }
    return ScenarioModel(name=name, latency=latency, **{**fields, **more})  # type: ignore[arg-type]  # checked by pydantic


def scenario(gpus: int = 1, interference: float = 0.0, batching: Batching = Batching.PREFILL_FIRST) -> Scenario:
    quality = {"small": 0.4, "large": 0.7}
    return Scenario(
        gpus=tuple(ScenarioGPU(group="a", interference=interference) for _ in range(gpus)),
        models=(
            model("small", SMALL, gpus, max_batch_size=256, batching=batching),
            model("large", LARGE, gpus, batching=batching),
        ),
        tasks=(
            ScenarioTask(
                name="hard",
                full_until_seconds=0.6,
                zero_from_seconds=0.6,
                quality=quality,
                prompt_tokens=128,
                output_tokens=16,
            ),
            ScenarioTask(
                name="soft",
                full_until_seconds=0.6,
                zero_from_seconds=2.0,
                quality=quality,
                prompt_tokens=128,
                output_tokens=16,
            ),
        ),
        default_task="hard",
    )
