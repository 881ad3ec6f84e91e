"""Presets: the figures of the studies, and interpolated ones by the stated rule."""

from itertools import pairwise
from math import log

import pytest

from bes_api.engines import ENGINES
from bes_api.presets import LATENCY_PRESETS, QUALITY_PRESETS
from bes_api.service import EngineType

BILLIONS = {"opt-125m": 0.125, "opt-350m": 0.35, "opt-1.3b": 1.3, "opt-2.7b": 2.7, "opt-6.7b": 6.7}
MEASURED_BY_LAW = {"decode_base_ms"}


def _interpolated(field: str, size: str, low: str, high: str) -> float:
    first, last = (getattr(LATENCY_PRESETS[name].profile.latency, field) for name in (low, high))
    share = log(BILLIONS[size] / BILLIONS[low]) / log(BILLIONS[high] / BILLIONS[low])
    return float(first * (last / first) ** share)


@pytest.mark.parametrize(
    "field",
    ["prefill_base_ms", "prefill_per_token_ms", "decode_per_sequence_ms", "decode_per_context_token_ms"],
)
def test_the_2_7b_preset_lies_on_the_line_that_its_source_states(field: str) -> None:
    stated = getattr(LATENCY_PRESETS["opt-2.7b"].profile.latency, field)
    assert stated == pytest.approx(_interpolated(field, "opt-2.7b", "opt-1.3b", "opt-6.7b"), rel=1e-3)


def test_the_350m_time_per_sequence_lies_on_the_line_that_its_source_states() -> None:
    stated = LATENCY_PRESETS["opt-350m"].profile.latency.decode_per_sequence_ms
    assert stated == pytest.approx(
        _interpolated("decode_per_sequence_ms", "opt-350m", "opt-125m", "opt-1.3b"), rel=1e-3
    )


@pytest.mark.parametrize(("size", "layers"), [("opt-350m", 24), ("opt-1.3b", 24), ("opt-2.7b", 32), ("opt-6.7b", 32)])
def test_decode_steps_follow_the_stated_law(size: str, layers: int) -> None:
    weight_gigabytes = 2 * BILLIONS[size]
    by_law = 0.0883 * layers + weight_gigabytes / (0.853 * 2.039)
    assert LATENCY_PRESETS[size].profile.latency.decode_base_ms == pytest.approx(by_law, rel=0.02)


def test_a_larger_model_takes_longer_in_every_part() -> None:
    latencies = [preset.profile.latency.model_dump() for preset in LATENCY_PRESETS.values()]
    for smaller, larger in pairwise(latencies):
        assert all(smaller[field] < larger[field] for field in smaller)


def test_the_studied_sizes_have_the_studys_limits() -> None:
    limits = {
        name: (preset.profile.kv_cache_tokens, preset.profile.max_batch_size)
        for name, preset in LATENCY_PRESETS.items()
    }
    assert limits["opt-125m"] == (100_000, 256)
    assert limits["opt-1.3b"] == (60_000, 128)
    assert limits["opt-6.7b"] == (60_000, 64)


def test_an_idle_6_7b_answers_the_typical_request_in_the_time_that_the_facts_say() -> None:
    latency = LATENCY_PRESETS["opt-6.7b"].profile.latency
    idle = latency.prefill_base_ms + 128 * latency.prefill_per_token_ms + 15 * latency.decode_base_ms
    assert 600 / idle == pytest.approx(3.3, abs=0.1)  # deadline 0.6 s = 3.3 times the idle latency


def test_every_preset_says_where_it_comes_from() -> None:
    assert all(len(preset.profile.source) > 20 for preset in LATENCY_PRESETS.values())
    assert all(preset.source for preset in QUALITY_PRESETS.values())
    assert all(set(preset.quality) == set(LATENCY_PRESETS) for preset in QUALITY_PRESETS.values())
    assert all(facts.source for facts in ENGINES.values())
    assert set(ENGINES) == set(EngineType)


def test_quality_figures_round_to_those_of_the_facts() -> None:
    expected = {
        "lambada": (0.379, 0.579, 0.677),
        "piqa": (0.630, 0.717, 0.763),
        "arc-easy": (0.435, 0.570, 0.656),
        "arc-challenge": (0.228, 0.294, 0.347),
        "winogrande": (0.503, 0.598, 0.653),
        "sciq": (0.751, 0.845, 0.901),
    }
    for task, values in expected.items():
        quality = QUALITY_PRESETS[task].quality
        for name, value in zip(("opt-125m", "opt-1.3b", "opt-6.7b"), values, strict=True):
            assert float(quality[name]) == pytest.approx(value, abs=0.0006)
