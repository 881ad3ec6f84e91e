"""Old figures measured live: what is played, and what recorded runs say; the long runs are a command's business."""

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from bes_api.documents import the_service
from bes_api.engines import engine_types
from bes_api.router_config import StaticPolicy
from bes_api.scenario_of import scenario_of
from bes_lab import clips, live_staleness
from bes_lab.clips import Clip
from bes_lab.demo import Show
from bes_lab.errors import TargetError
from bes_lab.live import Stage, contender
from bes_lab.live_staleness import CASES, TOPIC, Case, Measurement, conclusions, figures_in, runs_of
from bes_lab.local.figures import figures_of
from bes_lab.local.policies import own_policy
from bes_lab.local.prometheus import LocalPrometheus
from bes_lab.results import Recorder, write

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.fixture
def measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measurement:
    service, profiles = the_service(PAPER)
    scenario = scenario_of(service, profiles)
    clip = Clip("test", "", "", (60, 60), 1)
    arrivals = clips.arrivals(clip, 30.0, 1.0, 10.0, 1, scenario.tasks)
    direct = figures_of(service, prometheus=False)
    _, fallback = own_policy(service)
    stage = Stage(service.name, scenario, direct.load, fallback, arrivals, tmp_path, engine_types(service.spec))
    monkeypatch.setattr(live_staleness, "the_prometheus", lambda: Path("/usr/bin/prometheus"))
    learned = contender(StaticPolicy(model="opt-125m"))
    return Measurement("key", Show(clip, 30.0, stage), direct, learned, Recorder("test", None, {}, "", ""))


def test_cases_are_named_on_the_command_line_as_in_records() -> None:
    assert [Case.of(case.id) for case in CASES] == list(CASES)
    assert len(CASES) == 20
    assert {case.bar for case in CASES if case.split == "1" and case.source != "stopped"} == {"<= 1"}
    assert Case("15s", "4u").bar == "<= 1.5"
    assert Case("stopped", "1").bar == "<= 2"
    assert Case("15s", "4u").words == "Prometheus scraping every 15s, 4 routers (0.7/0.1/0.1/0.1)"
    for text in ("5s", "5s/3", "7s/1", ""):
        with pytest.raises(TargetError, match="expected SOURCE/ROUTERS"):
            Case.of(text)


def test_a_case_is_played_with_its_source_its_routers_and_its_outage(measurement: Measurement) -> None:
    assert measurement.stage(Case("direct", "1")).load == measurement.direct.load
    old = measurement.stage(Case("15s", "4u"))
    assert old.load == LocalPrometheus(Path("/usr/bin/prometheus"), 15.0)
    shares = np.bincount(old.routers(), minlength=4) / old.arrivals.time.size
    assert shares == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.06)
    assert (old.routers() == measurement.stage(Case("direct", "4u")).routers()).all(), "the same in every case"
    assert old.outage_seconds is None
    assert measurement.stage(Case("stopped", "1")).outage_seconds == pytest.approx(2.0, abs=0.1)


def test_the_simulator_sees_what_the_routers_of_the_case_see() -> None:
    generator = np.random.default_rng(1)
    old = figures_in(Case("15s", "4"), 12, 300.0, generator)
    assert (old.interval, len(old.polls), len(old.phases), old.outage) == (15.0, 4, 12, (inf, inf))
    assert {(poll.interval, poll.share) for poll in old.polls} == {(1.0, 1.0)}
    assert figures_in(Case("stopped", "2"), 12, 300.0, generator).outage == (30.0, inf)
    assert figures_in(Case("direct", "1"), 12, 300.0, generator).interval == 1.0


def test_recorded_runs_are_compared_with_direct_runs_of_as_many_routers(
    measurement: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measurement, "simulated", lambda *_: 90.0)
    made_by = measurement.made_by
    runs = {"5s/4.run1": 94.0, "5s/4.run2": 93.0, "5s/4.run3": None, "direct/4.run1": 95.0, "direct/4.run2": 95.0}
    runs |= {"direct/4u.run1": 1.0, "5s/4u.run1": 2.0, "15s/4.run1": 3.0}
    write(TOPIC, [made_by.record(f"key.{name}", "", found, "") for name, found in runs.items()], tmp_path)
    assert runs_of("key", Case("5s", "4"), tmp_path) == {1: 94.0, 2: 93.0}
    difference, simulated = conclusions(measurement, Case("5s", "4"), tmp_path)
    assert (difference.id, difference.measured, difference.met) == ("key.5s/4.difference", 1.5, True)
    assert "2 repeats (mean -1.50, 95 % interval -7.85 to +4.85)" in difference.claim
    assert (simulated.measured, simulated.met) == (3.5, False)
    (only,) = conclusions(measurement, Case("direct", "4"), tmp_path)
    assert only.id == "key.direct/4.simulated"
    assert list(conclusions(replace(measurement, key="other"), Case("5s", "4"), tmp_path)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "5s/9"], "--case 5s/9: expected SOURCE/ROUTERS"),
        (["--seconds-per-minute", "0"], "--seconds-per-minute 0: expected 0.1 to 60"),
        (["--sample", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_arguments_that_cannot_be_used_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert live_staleness.main(arguments) != 0
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
