"""The page of metrics names what routers and operator show, all of it, and what alerts and dashboard ask for."""

import re
from pathlib import Path

from bes_lab import metrics_page

ROOT = Path(__file__).parents[2]
FAMILY = re.compile(r"(Counter|Gauge|Histogram)MetricFamily\(\s*\"(bes_[a-z_]+)\"")


def listed() -> set[str]:
    """Names as queries write them, those of histograms without their endings."""
    return set(re.findall(r"^\| `(bes_[a-z_]+)` \|", (ROOT / metrics_page.PAGE).read_text(), flags=re.MULTILINE))


def test_the_page_is_fresh() -> None:
    assert metrics_page.fresh(ROOT) == (ROOT / metrics_page.PAGE).read_text(), "run `python -m bes_lab.metrics_page`"


def test_a_page_that_says_something_else_is_rewritten(tmp_path: Path) -> None:
    for path in (metrics_page.PAGE, metrics_page.EXAMPLE):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    page = tmp_path / metrics_page.PAGE
    page.write_text(page.read_text().replace("`bes_router_in_flight`", "`bes_router_gone`"))
    assert metrics_page.main(["--root", str(tmp_path)]) == 0
    assert page.read_bytes() == (ROOT / metrics_page.PAGE).read_bytes()


def test_a_metric_that_is_shown_only_sometimes_is_on_the_page_too() -> None:
    sources = [path for room in ("router", "operator") for path in (ROOT / room / "src").rglob("*.py")]
    written = [found for path in sources for found in FAMILY.findall(path.read_text())]
    assert len(written) >= 20
    assert {name + ("_total" if kind == "Counter" else "") for kind, name in written} <= listed()


def test_alerts_dashboard_and_pages_ask_for_nothing_that_is_not_listed() -> None:
    places = [ROOT / "charts" / "best-effort-serving" / "templates" / "_alerts.tpl"]
    places += [ROOT / "charts" / "best-effort-serving" / "files" / "dashboard.json", *(ROOT / "docs").glob("*.md")]
    asked = {name for path in places for name in re.findall(r"bes_(?:router|operator)_[a-z_]+[a-z]", path.read_text())}
    assert len(asked) > len(listed()) / 2
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= listed()
