"""Records are written once, computed and never typed."""

import json
from pathlib import Path

import pytest

from bes_lab.results import KEYS, Recorder, meets, read, read_all, write

RECORDER = Recorder("bes bench x", 7, {"python": "3.11"}, "2 cores", "2026-01-01")


@pytest.mark.parametrize(
    ("bar", "measured", "met"),
    [
        ("<= 3", 3.0, True),
        ("<= 3", 3.01, False),
        (">= 0.04", 0.05, True),
        ("< 1", 1.0, False),
        ("> 0", 0.1, True),
        ("== 0", 0.0, True),
        (None, 5.0, None),
        ("<= 3", None, False),
        ("<= 3", float("nan"), False),
    ],
)
def test_met_follows_from_bar_and_measured(bar: str | None, measured: float | None, met: bool | None) -> None:
    assert meets(bar, measured) is met


def test_a_bar_that_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="write a comparison"):
        RECORDER.record("a", "b", 1.0, "s", "about 3")


def test_writing_replaces_the_same_id_and_keeps_the_others(tmp_path: Path) -> None:
    write("t", [RECORDER.record("a", "first", 1.0, "s"), RECORDER.record("b", "other", 2.0, "s")], tmp_path)
    path = write("t", [RECORDER.record("a", "again", 3.0, "s", "<= 2")], tmp_path)
    entries = read(path)
    assert [(e["id"], e["measured"], e["met"]) for e in entries] == [("a", 3.0, False), ("b", 2.0, None)]
    assert all(tuple(e) == KEYS for e in entries)


def test_what_falls_short_comes_first(tmp_path: Path) -> None:
    write("a", [RECORDER.record("open", "c", 1.0, "s"), RECORDER.record("met", "c", 1.0, "s", "<= 2")], tmp_path)
    write("z", [RECORDER.record("short", "c", 3.0, "s", "<= 2")], tmp_path)
    assert [entry["id"] for _, entry in read_all(tmp_path)] == ["short", "met", "open"]


def test_a_record_with_other_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{"id": "a"}]))
    with pytest.raises(ValueError, match="expected exactly"):
        read(tmp_path / "x.json")
