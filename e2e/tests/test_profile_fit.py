"""The fit of a latency profile: exact where the formula is true, honest where measurements cannot say it."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_api.documents import read_services
from bes_api.profile import ModelProfile
from bes_api.quantities import DNS_SUBDOMAIN_PATTERN
from bes_api.scenario import Batching, LatencyProfile
from bes_lab.errors import ProfileError
from bes_lab.profile.document import as_yaml, name_of
from bes_lab.profile.fit import MeasuredBurst, fit, not_negative, step_of, together, unrest_of
from bes_lab.profile.forecast import errors, latencies, likelier, rate_for
from bes_lab.profile.plan import Burst, Settings, bursts_of, lengths_of_check, open_loop
from bes_lab.profile.wire import Answer

TRUTH = LatencyProfile(
    prefill_base_ms=12.0,
    prefill_per_token_ms=0.05,
    decode_base_ms=6.0,
    decode_per_sequence_ms=0.2,
    decode_per_context_token_ms=0.002,
)
PROMPTS, LEVELS, OUTPUT = (32, 128, 512), (1, 2, 4, 8), 24


def answer_of(latency: LatencyProfile, burst: Burst, round_trip: float = 0.0, pieces: int | None = None) -> Answer:
    """As the formula says it, all of the burst prefilled in one iteration."""
    prefill = latency.prefill_base_ms + latency.prefill_per_token_ms * burst.prompt_tokens * burst.concurrency
    instants = [prefill]
    for step in range(1, burst.output_tokens):
        context = burst.concurrency * (burst.prompt_tokens + step)
        base = latency.decode_base_ms + latency.decode_per_sequence_ms * burst.concurrency
        instants.append(instants[-1] + base + latency.decode_per_context_token_ms * context)
    events = np.array(instants) / 1e3 + round_trip
    if pieces is not None:
        events = events[np.linspace(0, len(events) - 1, pieces).astype(int)]
    return Answer(0.0, tuple(events), float(events[-1]), burst.prompt_tokens, burst.output_tokens)


def measured(latency: LatencyProfile, round_trip: float = 0.0) -> list[MeasuredBurst]:
    bursts = [Burst(prompt, OUTPUT, level) for prompt in PROMPTS for level in LEVELS]
    return [MeasuredBurst(b, (answer_of(latency, b, round_trip),) * b.concurrency) for b in bursts]


constants = st.builds(
    LatencyProfile,
    prefill_base_ms=st.floats(1, 100),
    prefill_per_token_ms=st.floats(0, 1),
    decode_base_ms=st.floats(1, 100),
    decode_per_sequence_ms=st.floats(0, 5),
    decode_per_context_token_ms=st.floats(0, 0.1),
)


@given(constants)
def test_constants_that_made_the_measurements_come_back(truth: LatencyProfile) -> None:
    found = fit(measured(truth, 0.003), 0.003)
    for name, value in truth.model_dump().items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4, abs=1e-5), name


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1e-3, 10)), min_size=3, max_size=8),
)
def test_no_constant_is_ever_below_zero_and_none_fits_better(rows: list[tuple[float, float, float]]) -> None:
    terms = np.array([(1.0, a, b) for a, b, _ in rows])
    seconds = np.array([y for *_, y in rows])
    found = not_negative(terms, seconds)
    assert np.all(found >= 0.0)
    error = np.sum((terms @ found / seconds - 1.0) ** 2)
    for changed in (found * [0.9, 1, 1], found * [1, 1.1, 1], found * [1, 1, 0.9], found * [1.1, 1, 1]):
        assert np.sum((terms @ changed / seconds - 1.0) ** 2) >= error - 1e-9


def test_one_slow_repeat_does_not_move_the_fit() -> None:
    bursts = measured(TRUTH) * 3
    slow = LatencyProfile(**{name: value * 5 for name, value in TRUTH.model_dump().items()})
    found = fit([*bursts[:-1], measured(slow)[-1]], 0.0)
    assert found.decode_base_ms == pytest.approx(TRUTH.decode_base_ms, rel=1e-3)


def test_tokens_are_counted_by_usage_where_pieces_hold_several() -> None:
    burst = Burst(64, 41, 1)
    whole, merged = step_of([answer_of(TRUTH, burst)]), step_of([answer_of(TRUTH, burst, pieces=21)])
    assert whole is not None
    assert merged is not None
    assert merged.seconds == pytest.approx(whole.seconds, rel=0.02)


def test_answers_that_stop_early_are_one_clear_error() -> None:
    bursts = [MeasuredBurst(Burst(p, OUTPUT, 1), (answer_of(TRUTH, Burst(p, 3, 1)),)) for p in PROMPTS]
    with pytest.raises(ProfileError, match=r"they have 3 tokens in 3 pieces \(median\).*`ignore_eos`"):
        fit(bursts, 0.0)


def test_sequences_that_decode_one_after_the_other_were_never_together() -> None:
    first = Answer(0.0, (0.1, 0.2, 0.3), 0.3, 8, 3)
    second = Answer(0.0, (0.4, 0.5, 0.6), 0.6, 8, 3)
    assert together([first, second]) == 1
    assert together([first, Answer(0.0, (0.25, 0.5), 0.5, 8, 3)]) == 2


def profile(latency: LatencyProfile, batch: int = 8) -> ModelProfile:
    return ModelProfile(latency=latency, kv_cache_tokens=60_000, max_batch_size=batch, source="a test")


def sent_at(*instants: float) -> list[Answer]:
    return [Answer(at, (), at, 100, 10) for at in instants]


def test_a_forecast_of_one_request_is_the_formula() -> None:
    (seconds,) = latencies(profile(TRUTH), Batching.PREFILL_FIRST, sent_at(5.0))
    expected = 12.0 + 0.05 * 100 + sum(6.0 + 0.2 + 0.002 * (100 + step) for step in range(1, 10))
    assert seconds == pytest.approx(expected / 1e3, rel=1e-9)


def test_a_forecast_knows_the_batch_that_requests_share_and_the_queue_before_it() -> None:
    alone, _ = latencies(profile(TRUTH), Batching.PREFILL_FIRST, sent_at(0.0, 10.0))
    shared = latencies(profile(TRUTH), Batching.PREFILL_FIRST, sent_at(0.0, 0.03))
    queued = latencies(profile(TRUTH, batch=1), Batching.PREFILL_FIRST, sent_at(0.0, 0.03))
    assert shared[0] > alone
    assert queued[0] == pytest.approx(alone)
    assert queued[1] == pytest.approx(2 * alone - 0.03, rel=1e-6)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_fit_has_a_large_error_and_the_right_one_none(factor: float) -> None:
    arrivals = sent_at(*(0.05 * index for index in range(40)))
    truth = latencies(profile(TRUTH), Batching.CHUNKED_PREFILL, arrivals)
    answers = [
        Answer(each.sent, (), each.sent + seconds, each.prompt_tokens, each.output_tokens)
        for each, seconds in zip(arrivals, truth, strict=True)
    ]
    wrong = LatencyProfile(**{name: value * factor for name, value in TRUTH.model_dump().items()})
    assert errors(profile(TRUTH), Batching.CHUNKED_PREFILL, [answers], 0.0).p90 < 1e-9
    assert errors(profile(wrong), Batching.CHUNKED_PREFILL, [answers], 0.0).median > 0.4
    assert likelier(profile(TRUTH), [answers[:20], answers[20:]], 0.0).batching is Batching.CHUNKED_PREFILL


def test_the_check_has_lengths_of_its_own_and_arrives_at_its_rate() -> None:
    settings = Settings(check_requests=400)
    lengths = lengths_of_check(settings)
    assert min(p for p, _ in lengths) >= 32
    assert max(p for p, _ in lengths) <= 512
    assert len({p for p, _ in lengths} - set(settings.prompt_tokens)) > 100
    parts = [open_loop(settings, 10.0, repeat) for repeat in range(settings.repeats)]
    assert [(due.prompt_tokens, due.output_tokens) for due in parts[1]] == lengths[1 :: settings.repeats]
    assert sum(map(len, parts)) == 400
    assert sum(part[-1].second for part in parts) == pytest.approx(40.0, rel=0.2)
    assert parts[0] == open_loop(settings, 10.0, 0)


def test_more_load_in_flight_is_a_higher_rate() -> None:
    assert rate_for(profile(TRUTH), 0.5, 128, 16) < rate_for(profile(TRUTH), 4.0, 128, 16)


def test_every_combination_is_sent_once_a_repeat_in_changing_order() -> None:
    settings = Settings()
    repeats = [bursts_of(settings, repeat) for repeat in range(settings.repeats)]
    assert repeats[0] != repeats[1]
    assert Counter(repeats[0]) == Counter(repeats[1])
    sent = sum(burst.concurrency for repeat in repeats for burst in repeat)
    assert sent + settings.check_requests == settings.requests
    assert {(b.prompt_tokens, b.concurrency) for b in repeats[0]} == {
        (prompt, level) for prompt in settings.prompt_tokens for level in settings.concurrency
    }


def test_repeats_that_differ_show_the_machines_unrest() -> None:
    once = measured(TRUTH)
    slow = measured(LatencyProfile(**{name: value * 1.5 for name, value in TRUTH.model_dump().items()}))
    assert unrest_of(once * 3) == 0.0
    assert unrest_of(once + slow + slow + once) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(prompt_tokens=(32,)), "--prompt-tokens: give at least two"),
        (Settings(concurrency=(2, 4)), "--concurrency: give 1 and at least one more"),
        (Settings(output_tokens=4), "--output-tokens 4: give at least 8"),
        (Settings(repeats=0), "--repeats and --check-requests"),
        (Settings(max_seconds=0), "--max-seconds 0: give a number above 0"),
        (Settings(repeats=1000), "more than 5000"),
    ],
)
def test_a_measurement_that_could_not_tell_the_constants_apart_is_refused(settings: Settings, says: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(says)):
        settings.check()


@given(st.text())
def test_every_model_name_makes_a_name_that_kubernetes_takes(model: str) -> None:
    name = name_of(model)
    assert re.fullmatch(DNS_SUBDOMAIN_PATTERN, name)
    assert len(name) <= 253


@given(constants)
def test_the_config_map_beside_a_service_is_read_back_as_the_profile(truth: LatencyProfile) -> None:
    written = as_yaml(profile(truth), name_of("facebook/opt-1.3b"))
    service = """
apiVersion: besteffort.dev/v1alpha1
kind: BestEffortService
metadata: {name: own}
spec:
  engine: {type: VLLM}
  models:
  - name: opt
    modelID: facebook/opt-1.3b
    replicas: 1
    contextTokens: 2048
    profile: {configMapRef: {name: facebook-opt-1.3b-profile}}
  defaultTask: any
  tasks:
  - {name: any, deadline: {hard: {within: 1s}}, quality: {opt: "0.5"}, tokens: {prompt: 16, output: 8}}
"""
    read = read_services(f"{service}---\n{written}", "both").profiles["facebook-opt-1.3b-profile"]
    assert read.kv_cache_tokens == 60_000
    assert read.source == "a test"
    for name, value in truth.model_dump().items():
        assert getattr(read.latency, name) == pytest.approx(value, abs=1e-6)
