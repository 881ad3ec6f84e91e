"""`bes demo` from training to report, with a short clip and one rival."""

import argparse
import json
from pathlib import Path

import pytest
from rich.console import Console

from bes_api.router_config import StaticPolicy
from bes_lab import demo
from bes_lab.clips import Clip
from bes_lab.live import contender
from bes_lab.local.prometheus import find_prometheus

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.mark.slow  # compiles the simulator
def test_the_demo_writes_the_report_that_the_issue_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "train", lambda *_: [])
    monkeypatch.setattr(demo, "rivals", lambda *_: [contender(StaticPolicy(model="opt-1.3b"))])
    monkeypatch.setattr(demo.prediction, "base_rate", lambda _: 20.0)
    monkeypatch.setattr(demo.clips, "load", lambda _: Clip("short", "a test", "", (1, 2), 1))
    parser = argparse.ArgumentParser()
    demo.configure(parser)
    assert demo.run(parser.parse_args(["--out", str(tmp_path), "--service", str(PAPER)])) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    through = find_prometheus() is not None
    assert report["load_source"] == ("prometheus" if through else "direct")
    assert report["scrape_interval_seconds"] == (1.0 if through else None)
    (policy,) = report["policies"]
    assert {"name", "performance", "in_time", "requests", "valid"} <= set(policy)
    assert policy["name"] == "Static(opt-1.3b)"
    assert policy["requests"] == pytest.approx(120, abs=40)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "logs" / "Static-opt-1.3b" / "router.log").exists()
    if not policy["valid"]:
        pytest.skip("this machine was too busy for a valid run, whose figures could be compared")
    assert policy["performance"] == pytest.approx(policy["predicted_performance"], abs=0.05)


def test_without_torch_the_dqn_is_left_out_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class StopHereError(Exception):
        pass

    def train_into(_scenario: object, settings: object, *_: object) -> None:
        asked.append(settings)
        raise StopHereError

    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    monkeypatch.setattr(demo, "train_into", train_into)
    service, profiles = demo.the_service(PAPER)
    console = Console(record=True, width=200)
    with pytest.raises(StopHereError):
        demo.train(service, demo.scenario_of(service, profiles), tmp_path, 1234, console)
    said = console.export_text()
    assert "no torch here" in said
    assert "shortened to 1,234 decisions of 1,200,000" in said
    (settings,) = asked
    assert (settings.learner, settings.decisions, settings.seeds, settings.shortened) == ("Evolution", 1234, (1,), True)
