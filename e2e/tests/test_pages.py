"""Figures in the documentation come from records and from nowhere else."""

import json
from pathlib import Path

import pytest

from bes_lab import pages

ROOT = Path(__file__).resolve().parents[2]
RECORD = {
    "id": "decision-rule",
    "claim": "one decision with a rule",
    "bar": "<= 15",
    "measured": 7.26,
    "unit": "µs",
    "met": True,
    "command": "bes bench decision",
    "seed": 1,
    "versions": {},
    "machine": "2 cores",
    "date": "2026-01-02",
}
PLACE = "before\n<!-- results bench{ids} -->\nold\n<!-- end of results -->\nafter\n"


def test_the_pages_of_this_repository_are_what_the_records_say() -> None:
    assert pages.main(["--check", "--root", str(ROOT)]) == 0


def test_a_place_is_filled_and_the_rest_of_the_page_stays() -> None:
    page = pages.rendered(PLACE.format(ids=""), {"bench": [RECORD]})
    assert page.startswith("before\n<!-- results bench -->\n| What |")
    assert "| one decision with a rule | 7.26 µs | ≤ 15 | met |\n" in page
    assert page.endswith("<!-- end of results -->\nafter\n")
    assert "old" not in page


def test_filling_a_page_twice_changes_nothing() -> None:
    once = pages.rendered(PLACE.format(ids=": decision-rule"), {"bench": [RECORD]})
    assert pages.rendered(once, {"bench": [RECORD]}) == once


def test_a_page_that_asks_for_a_record_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(pages.UnknownRecordError, match="no record decision-scorer"):
        pages.rendered(PLACE.format(ids=": decision-scorer"), {"bench": [RECORD]})


def test_a_topic_without_records_says_so() -> None:
    assert "Nothing has been recorded yet." in pages.rendered(PLACE.format(ids=""), {})


def test_a_stale_page_fails_the_check_and_is_mended_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "bench.json").write_text(json.dumps([RECORD]))
    (tmp_path / "README.md").write_text(PLACE.format(ids=""))
    assert pages.main(["--check", "--root", str(tmp_path)]) == 1
    assert "README.md: out of date, run `make results`" in capsys.readouterr().err
    assert pages.main(["--root", str(tmp_path)]) == 0
    assert pages.main(["--check", "--root", str(tmp_path)]) == 0


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.0123"), (7.0, "7"), (999.4, "999"), (1234567.0, "1,234,567")])
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert pages.figure(value) == text


def test_a_place_for_a_file_holds_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    page = "<!-- file a.py -->\nold\n<!-- end of file -->\n"
    filled = pages.with_files(page, tmp_path)
    assert filled == "<!-- file a.py -->\n```python\nx = 1\n```\n<!-- end of file -->\n"
    assert pages.with_files(filled, tmp_path) == filled
    with pytest.raises(pages.UnknownRecordError, match=r"no file b\.py"):
        pages.with_files(page.replace("a.py", "b.py"), tmp_path)
