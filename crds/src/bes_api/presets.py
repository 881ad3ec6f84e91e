"""What is known of the OPT family without measuring anything: latency and quality presets, each with its source.

Nothing here is the paper's: its tables could not be read. Figures that were not measured say by which rule they came.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from bes_api.profile import ModelProfile
from bes_api.scenario import LatencyProfile

PRESET_DEVICE_CLASS = "A100-80GB"
"""Every latency preset is of this GPU, fp16, one GPU per engine."""

_FITTED = (
    "fitted to FasterTransformer's GPT guide (same layer shapes; A100-80GB, fp16, batch 1-64; mean error {error} %)"
)
_SCALED = (
    "time per sequence scaled from DistServe's OPT-13B fit; KV cache and batch as this project's studies chose them"
)
_MEASURED = f"{_FITTED}; {_SCALED}"
_INTERPOLATED = "a straight line in logarithms over the nominal parameter count between {low} and {high}"
_CHOSEN = "batch of the next larger studied size, KV cache small enough for all five sizes on one GPU"


@dataclass(frozen=True)
class LatencyPreset:
    """A latency preset and the hub's id of the model that it describes."""

    name: str
    model_id: str
    profile: ModelProfile


@dataclass(frozen=True)
class QualityPreset:
    """Quality of every preset model on one task, as raw accuracy (not normalised by the task's chance level)."""

    task: str
    metric: str
    quality: Mapping[str, Decimal]
    source: str


def _preset(
    size: str, milliseconds: tuple[float, float, float, float, float], kv: int, batch: int, source: str
) -> LatencyPreset:
    base, token, step, sequence, context = milliseconds
    latency = LatencyProfile(
        prefill_base_ms=base,
        prefill_per_token_ms=token,
        decode_base_ms=step,
        decode_per_sequence_ms=sequence,
        decode_per_context_token_ms=context,
    )
    profile = ModelProfile(latency=latency, kv_cache_tokens=kv, max_batch_size=batch, source=source)
    return LatencyPreset(name=f"opt-{size}", model_id=f"facebook/opt-{size}", profile=profile)


_OPT = (
    # ms: prefill base, per prompt token; decode base, per sequence, per token of context
    _preset(
        "125m",
        (3.0, 0.0030, 1.20, 0.004, 0.00006),
        100_000,
        256,
        "extrapolated from the larger sizes, not measured; KV cache and batch as this project's studies chose them",
    ),
    _preset(
        "350m",
        (5.93, 0.00857, 2.520, 0.005425, 0.000144),
        20_000,
        128,
        f"{_FITTED.format(error='1.4')}; time per sequence: {_INTERPOLATED.format(low='125M', high='1.3B')}; {_CHOSEN}",
    ),
    _preset("1.3b", (7.94, 0.01801, 3.658, 0.008, 0.000304), 60_000, 128, _MEASURED.format(error="0.9")),
    _preset(
        "2.7b",
        (10.39, 0.03340, 5.87, 0.01204, 0.0004007),
        20_000,
        64,
        "decode base by the law 0.0883 ms x layers + weight bytes/(0.853 x 2.039 TB/s), within 1.5 % on four sizes; "
        f"the other times: {_INTERPOLATED.format(low='1.3B', high='6.7B')}; {_CHOSEN}",
    ),
    _preset("6.7b", (14.52, 0.07201, 10.321, 0.020, 0.000565), 60_000, 64, _MEASURED.format(error="0.8")),
)

LATENCY_PRESETS: Mapping[str, LatencyPreset] = MappingProxyType({preset.name: preset for preset in _OPT})
PRESET_OF_MODEL_ID: Mapping[str, LatencyPreset] = MappingProxyType({preset.model_id: preset for preset in _OPT})


def _quality(task: str, metric: str, *values: str) -> QualityPreset:
    names = tuple(LATENCY_PRESETS)
    quality = {name: Decimal(value) for name, value in zip(names, values, strict=True)}
    return QualityPreset(task=task, metric=metric, quality=MappingProxyType(quality), source=_HARNESS)


_HARNESS = "EleutherAI/lm-evaluation-harness at 8a7077017, results/opt (MIT), 0-shot"
_TASKS = (
    # task, metric; 125M, 350M, 1.3B, 2.7B, 6.7B
    _quality("lambada", "acc", "0.3790", "0.4516", "0.5793", "0.6359", "0.6771"),
    _quality("piqa", "acc", "0.6300", "0.6436", "0.7171", "0.7388", "0.7628"),
    _quality("arc-easy", "acc", "0.4352", "0.4402", "0.5703", "0.6077", "0.6561"),
    _quality("arc-challenge", "acc_norm", "0.2278", "0.2389", "0.2944", "0.3123", "0.3473"),
    _quality("winogrande", "acc", "0.5028", "0.5233", "0.5975", "0.6101", "0.6527"),
    _quality("sciq", "acc", "0.7510", "0.7480", "0.8450", "0.8580", "0.9010"),
)

QUALITY_PRESETS: Mapping[str, QualityPreset] = MappingProxyType({preset.task: preset for preset in _TASKS})
