"""How the router decides: a decision log is read as it was written, and records and picture say what it holds."""

from pathlib import Path

import numpy as np
import pytest
from lab_scenarios import scenario

from bes_api.router_config import DeadlineAwarePolicy, DirectLoad
from bes_lab import clips, decides_picture
from bes_lab.clips import Arrivals
from bes_lab.decides import Decisions, Run, moments, read_log, records_of
from bes_lab.demo import Show
from bes_lab.errors import TraceError
from bes_lab.live import Stage
from bes_lab.replay.measured import Measured
from bes_lab.replay.outcomes import judge, summarize
from bes_lab.results import recorder
from bes_router.decision_log import DecisionLog
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.policy.tracker import LoadTracker

SCENARIO = scenario()
CALM, BURST = 3, 60
"""Requests in each of the first four seconds, and in the fifth."""


@pytest.fixture(name="arrivals", scope="module")
def some_arrivals() -> Arrivals:
    time = np.concatenate(
        [second + np.linspace(0.0, 0.9, CALM) for second in range(4)] + [np.linspace(4.0, 4.9, BURST)]
    )
    count = len(time)
    return Arrivals(time, np.zeros(count, np.int64), np.full(count, 128), np.full(count, 16))


@pytest.fixture(name="log", scope="module")
def a_log(arrivals: Arrivals, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a router writes that sends these requests and never gets an answer."""
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    catalogue = catalogue_of(SCENARIO)
    tracker, policy = LoadTracker(catalogue, 100.0), load_policy(DeadlineAwarePolicy(), SCENARIO, catalogue)
    written = DecisionLog(path, SCENARIO, policy.name)
    for number, now in enumerate((100.0 + arrivals.time).tolist()):
        tracker.arrived(now)
        request = RoutingRequest(0, 128, 16, now + 0.6, now + 0.6)
        view = tracker.view(now)
        decision = policy.choose(request, view, now)
        written.decided(number, request, view, now, decision, policy.name)
        tracker.sent(decision.engine, now)
    written.close()
    return path


@pytest.fixture(name="run", scope="module")
def a_run(log: Path, arrivals: Arrivals, tmp_path_factory: pytest.TempPathFactory) -> Run:
    decisions, due = read_log(log, SCENARIO), arrivals.time.tolist()
    names = [SCENARIO.models[index].name for index in decisions.model]
    done = [at + (0.1 if at < 4.0 else 0.9) for at in due]
    measured = Measured(due, due, done, done, [200] * len(due), names, 0.1, [0.5])
    outcomes = judge(SCENARIO, arrivals, measured)
    stage = Stage("s", SCENARIO, DirectLoad(), DeadlineAwarePolicy(), arrivals, tmp_path_factory.mktemp("stage"), {})
    show = Show(clips.load(clips.DEMO_CLIP), 20.0, stage)
    return Run(show, SCENARIO, "DeadlineAware", decisions, outcomes, summarize(SCENARIO, outcomes, measured))


def test_a_log_is_read_as_it_was_written(log: Path, arrivals: Arrivals) -> None:
    found: Decisions = read_log(log, SCENARIO)
    assert found.time == pytest.approx(arrivals.time)
    assert found.in_flight[0].tolist() == [0.0, 0.0]
    assert found.in_flight.sum(axis=1) == pytest.approx(np.arange(len(arrivals.time))), "nothing was ever answered"
    assert (np.diff(found.finish[:, 1]) >= -1e-9).all(), "the fuller an engine, the later it promises"
    assert set(found.model.tolist()) == {0, 1}


def test_the_burst_is_the_busiest_second_and_the_calm_one_lies_half_way(run: Run) -> None:
    assert moments(run) == {"calm": 2, "burst": 4}


def test_records_say_what_came_what_was_chosen_and_what_was_in_time(run: Run) -> None:
    found = {each.id: each.measured for each in records_of(run, recorder("test"))}
    assert found["decides.calm.requests"] == CALM
    assert found["decides.burst.requests"] == BURST
    assert (found["decides.calm.in-time"], found["decides.burst.in-time"]) == (100.0, 0.0)
    assert found["decides.in-time"] == pytest.approx(100 * 4 * CALM / (4 * CALM + BURST))
    for moment in ("calm", "burst"):
        assert sum(found[f"decides.{moment}.{model.name}.chosen"] or 0 for model in SCENARIO.models) == pytest.approx(
            100
        )
    calm, burst = found["decides.calm.large.finish"], found["decides.burst.large.finish"]
    assert calm is not None
    assert burst is not None
    assert calm < burst


def test_the_picture_is_drawn(run: Run, tmp_path: Path) -> None:
    decides_picture.draw(run.scenario, run.decisions, run.outcomes, run.show, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "holds no decision"), ("{}\n{}\n", "is no decision log"), ("{}\nnothing\n", "is no decision log")],
)
def test_a_file_that_is_no_decision_log_is_one_clear_error(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "log").write_text(content)
    with pytest.raises(TraceError, match=says):
        read_log(tmp_path / "log", SCENARIO)
