"""The demo's clip: derived by a stated rule, committed, and the same requests from the same seed."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from lab_scenarios import scenario

from bes_lab import clips
from bes_lab.clips import Mix, rebuild
from bes_lab.errors import TraceError

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
