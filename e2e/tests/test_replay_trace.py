"""Traces in every form that is read, scaled in rate and time, and mixes of tasks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_scenarios import scenario

from bes_lab import clips
from bes_lab.clips import Clip, Mix
from bes_lab.errors import TraceError
from bes_lab.replay.trace import Playing, Requests, arrivals_of, mix_of, read, usual_speed

TASKS = scenario().tasks


def csv_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_azures_timestamps_become_seconds_from_the_first(tmp_path: Path) -> None:
    trace = read(
        csv_of(
            tmp_path,
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
            "2023-11-16 18:15:50.9951690,396,109\n",
        )
    )
    assert isinstance(trace, Requests)
    assert trace.time.tolist() == pytest.approx([0.0, 4.314579])


@pytest.mark.parametrize("name", clips.names())
def test_every_packaged_trace_plays_at_its_usual_speed_and_at_any_rate(name: str) -> None:
    trace = read(name)
    speed = usual_speed(trace)
    usual = arrivals_of(trace, Playing(speed, None, trace.seed), TASKS)
    again = arrivals_of(trace, Playing(speed, None, trace.seed), TASKS)
    assert usual.time.tobytes() == again.time.tobytes()
    scaled = arrivals_of(trace, Playing(speed, 50.0, trace.seed), TASKS)
    length = len(trace.counts) if isinstance(trace, Clip) else float(trace.time[-1])
    assert 0 <= scaled.time[0] <= scaled.time[-1] <= length
    variation = max(trace.gap_cv, default=1.0) if isinstance(trace, Clip) else 1.0
    assert abs(scaled.time.size - 50.0 * length) < 4 * variation * np.sqrt(50.0 * length)


def test_a_servegen_clip_keeps_its_recorded_rate_although_its_windows_are_short() -> None:
    trace = read("servegen-deepseek-r1")
    assert isinstance(trace, Clip)
    played = arrivals_of(trace, Playing(usual_speed(trace), None, 1), TASKS)
    recorded = sum(trace.counts) / len(trace.counts) / trace.window_seconds
    assert trace.rate == pytest.approx(recorded, rel=1e-3)
    assert played.time.size / len(trace.counts) == pytest.approx(recorded, rel=0.15)


def test_minutes_are_summed_over_functions(tmp_path: Path) -> None:
    trace = read(csv_of(tmp_path, "HashFunction,minute_1,minute_2\na,1,2\nb,10,20\n"))
    assert isinstance(trace, Clip)
    assert trace.counts == (11, 22)


def test_tasks_of_a_trace_are_kept(tmp_path: Path) -> None:
    trace = read(csv_of(tmp_path, "time_seconds,task\n5.0,soft\n4.0,hard\n"))
    played = arrivals_of(trace, Playing(speed=2.0, rate=None, seed=1), TASKS)
    assert played.time.tolist() == [0.0, 0.5]
    assert played.task.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("time_seconds\n", "has no requests"),
        ("what\n1\n", "time_seconds, TIMESTAMP or minute_N"),
        ("time_seconds\nsoon\n", "does not fit the header"),
        ("minute_1,minute_2\n1\n", "does not fit the header"),
        ("minute_1,minute_2\n-5,3\n", "counts: expected non-negative"),
        ("minute_1,minute_2\n0,0\n", "not all 0"),
        ("minute_1\n", "not all 0"),
        ("minute_1\n999999999999999999999\n", "counts"),
        ("time_seconds\nnan\n0\n", "no number of seconds"),
        ("time_seconds\n1e308\n-1e308\n", "no number of seconds"),
        ("TIMESTAMP\n2024-01-01T00:00:00+00:00\n2024-01-01T00:00:00\n", "does not fit the header"),
        (f"time_seconds\n{'1' * 200_000}\n", "cannot be read"),
    ],
)
def test_a_trace_that_cannot_be_read_says_why(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        read(csv_of(tmp_path, text))


@pytest.mark.parametrize("trace", [Requests(np.array([0.0, 1.0]), None), Clip("c", "", "", (1, 2), 1)])
def test_a_rate_that_would_fill_the_memory_is_refused_at_once(trace: Clip | Requests) -> None:
    with pytest.raises(TraceError, match="requests at that rate and speed"):
        arrivals_of(trace, Playing(speed=1.0, rate=1e15, seed=1), TASKS)


@pytest.mark.parametrize("rate", [20.0, 100.0, 250.0])
def test_the_rate_is_met_by_thinning_and_overlaying(rate: float) -> None:
    time = np.sort(np.random.default_rng(1).random(6000) * 60.0)
    trace = Requests(time - time[0], None)
    played = arrivals_of(trace, Playing(speed=1.0, rate=rate, seed=3), TASKS)
    assert played.time.size / 60.0 == pytest.approx(rate, rel=0.05)
    assert (np.diff(played.time) >= 0).all()
    assert played.time[-1] <= 60.0


def test_a_duration_cuts_the_replay() -> None:
    trace = Clip("c", "", "", (100, 100, 100), 1)
    played = arrivals_of(trace, Playing(speed=60.0, rate=50.0, seed=1, duration_seconds=1.5), TASKS)
    assert 1.0 < played.time[-1] < 1.5
    assert played.time.size == pytest.approx(75, abs=30)
    assert {column.size for column in played} == {played.time.size}


def test_mixes_are_read_and_ordered() -> None:
    assert mix_of(["12:soft=1", "hard=3,soft=1"], TASKS) == (Mix(0.0, (3.0, 1.0)), Mix(12.0, (0.0, 1.0)))
    assert mix_of(["5:soft=1"], TASKS)[0] == Mix(0.0, (1.0, 1.0))


NUMBERS = st.floats().map(str)
PIECES = st.lists(st.one_of(st.sampled_from(["hard", "soft", "=", ",", ":", " ", "-"]), NUMBERS), max_size=8)


@given(st.one_of(st.text(max_size=30), PIECES.map("".join)))
def test_any_text_is_a_mix_or_one_clear_error(text: str) -> None:
    try:
        steps = mix_of([text], TASKS)
    except TraceError:
        return
    assert all(np.isfinite(step.from_second) and step.from_second >= 0 for step in steps)
    assert all(np.isfinite(step.weights).all() and sum(step.weights) > 0 for step in steps)
