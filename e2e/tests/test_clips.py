"""The demo's clip: derived by a stated rule, committed, and the same requests from the same seed."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lab_scenarios import scenario

from bes_lab import clips
from bes_lab.clips import Mix, rebuild
from bes_lab.errors import TraceError
from bes_training.workloads.traces import SERVEGEN_POOLS, Part, azure_arrivals, series_of

TASKS = scenario().tasks


def test_the_committed_clip_is_the_one_that_the_issue_describes() -> None:
    clip = clips.load(clips.DEMO_CLIP)
    counts = np.array(clip.counts)
    assert len(counts) == 30
    assert counts.sum() == 14_730
    assert counts.argmax() == 15, "the burst is in the middle"
    assert counts.max() / counts.mean() * 3 == pytest.approx(9.2, abs=0.1), "at 3x base it is about 9x"
    assert "1149 functions" in clip.source
    assert "CC-BY" in clip.licence


def test_arrivals_are_the_same_bytes_from_the_same_seed() -> None:
    clip = clips.load(clips.DEMO_CLIP)
    one, again, other = (clips.arrivals(clip, 60.0, 3.0, 1.0, seed, TASKS) for seed in (5, 5, 6))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, again, strict=True))
    assert one.time.tobytes() != other.time.tobytes()
    digest = hashlib.sha256(one.time.tobytes() + one.task.tobytes()).hexdigest()
    assert digest[:16] == "48fd37f38367ecff", "the demo's requests changed: say so where results are recorded"


def test_arrivals_follow_the_counts() -> None:
    clip = clips.load(clips.DEMO_CLIP)
    played = clips.arrivals(clip, 100.0, 3.0, 2.0, 1, TASKS)
    assert (np.diff(played.time) >= 0).all()
    assert played.time[-1] < 60.0
    assert played.time.size / 60.0 == pytest.approx(300.0, rel=0.03)
    per_window = np.bincount((played.time // 2.0).astype(int), minlength=30)
    expected = np.array(clip.counts) / np.mean(clip.counts) * 600
    assert (np.abs(per_window - expected) < 5 * np.sqrt(expected)).all()
    assert (played.prompt_tokens == 128).all()


def test_a_mix_shifts_at_its_second() -> None:
    clip = clips.load(clips.DEMO_CLIP)
    mix = (Mix(0.0, (1.0, 0.0)), Mix(10.0, (1.0, 3.0)))
    played = clips.arrivals(clip, 100.0, 3.0, 1.0, 1, TASKS, mix)
    assert not played.task[played.time < 10.0].any()
    assert played.task[played.time >= 10.0].mean() == pytest.approx(0.75, abs=0.02)


def write_minutes(path: Path, names: list[str], rows: list[list[int]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["HashFunction", *names], *([f"f{i}", *row] for i, row in enumerate(rows))])


def test_rebuilding_leaves_out_large_rows_that_the_other_file_has_too(tmp_path: Path) -> None:
    minutes = range(1, 1441)
    busy = [3 if minute == 40 else 1 for minute in minutes]
    own = [2 if minute == 31 else 1 for minute in minutes]
    rare = [1 if minute == 60 else 0 for minute in minutes]
    write_minutes(tmp_path / "A_1350fn_x.csv", [f"minute_{m}" for m in minutes], [busy, own, rare])
    write_minutes(tmp_path / "B_1350fn_y.csv", [f"{m}_minute" for m in reversed(minutes)], [busy[::-1], rare[::-1]])
    rows = [rebuild.rows_of(path) for path in sorted(tmp_path.glob("*.csv"))]
    assert rebuild.test_split(*rows) == [tuple(own), tuple(rare)], "a row of few calls may be there by chance"
    assert rebuild.clip_of(*rows)["counts"] == [2, *[1] * 28, 2]


def test_a_broken_clip_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"name": "x", "counts": [0, 0], "source": "", "licence": "", "seed": 1}')
    with pytest.raises(TraceError, match="not all 0"):
        clips.load(str(tmp_path / "x.json"))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for nothing in ("nowhere", "x" * 5000, str(tmp_path / "deep.json")):
        with pytest.raises(TraceError, match="is no clip"):
            clips.load(nothing)


def test_the_committed_clips_of_servegen_and_azure_are_what_rebuilding_gives() -> None:
    folder = Path(clips.__file__).parent
    documents = [rebuild.azure_clip(), *(rebuild.servegen_clip(pool) for pool in SERVEGEN_POOLS)]
    for document in documents:
        committed = (folder / f"{document['name']}.json").read_text(encoding="utf-8")
        assert committed == rebuild.written(document)
    assert {str(document["name"]) for document in documents} | {clips.DEMO_CLIP} == set(clips.names())


def test_packaged_recordings_are_of_the_parts_that_no_policy_trained_on() -> None:
    azure = clips.read("azure-conversation")
    assert isinstance(azure, clips.Recording)
    assert azure.instants == pytest.approx(azure_arrivals(Part.TEST), abs=0.001)
    clip = clips.load("servegen-m-mid")
    test_part = series_of(Part.TEST, "ServeGen", "m-mid").rate * clip.window_seconds
    windows = np.lib.stride_tricks.sliding_window_view(np.rint(test_part), len(clip.counts))
    assert (windows == np.array(clip.counts)).all(axis=1).sum() == 1, "one stretch of the test part, unchanged"


def test_a_clip_with_bursty_gaps_is_burstier_than_poisson_and_keeps_its_rate() -> None:
    clip = clips.load("servegen-m-mid")
    played = clips.arrivals(clip, 200.0, 1.0, 10.0, 1, TASKS)
    poisson = clips.arrivals(replace(clip, gap_cv=()), 200.0, 1.0, 10.0, 1, TASKS)
    assert played.time.size == pytest.approx(200.0 * 10.0 * len(clip.counts), rel=0.05)
    assert (np.diff(played.time) >= 0).all()
    spread = [float(np.diff(each.time).std() / np.diff(each.time).mean()) for each in (played, poisson)]
    assert spread[0] > 3 * spread[1]


def test_the_list_says_name_source_licence_length_mean_and_peak_rate() -> None:
    found = {each.name: each for each in clips.listed()}
    demo = found[clips.DEMO_CLIP]
    assert (demo.seconds, demo.requests) == (1800.0, 14_730)
    assert demo.peak_rate == pytest.approx(1509 / 60)
    for each in found.values():
        assert each.source
        assert each.licence
        assert 0 < each.mean_rate <= each.peak_rate


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("window_seconds", 0, "window_seconds"),
        ("rate", -1, "requests/s above 0"),
        ("gap_cv", [1.0], "for each of the counts"),
        ("gap_cv", [1.0, float("nan")], "for each of the counts"),
        ("gaps_milliseconds", [0], "two or more"),
        ("gaps_milliseconds", [0, 0], "not all 0"),
        ("gaps_milliseconds", [0, -3], "at least 0"),
        ("speed", 3, "is no clip"),
    ],
)
def test_a_member_that_cannot_be_played_is_named(tmp_path: Path, member: str, value: object, says: str) -> None:
    document: dict[str, object] = {"name": "x", "source": "", "licence": "", "seed": 1}
    if member != "gaps_milliseconds":
        document["counts"] = [1, 2]
    (tmp_path / "x.json").write_text(json.dumps({**document, member: value}))
    with pytest.raises(TraceError, match=says):
        clips.read(str(tmp_path / "x.json"))


def test_a_recording_where_counts_are_needed_is_refused() -> None:
    with pytest.raises(TraceError, match="counts per window"):
        clips.load("azure-conversation")
