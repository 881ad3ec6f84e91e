"""Live runs beside the simulator: the same requests, over real HTTP, judged alike."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bes_api.discovery_config import StaticBackends
from bes_api.documents import the_service
from bes_api.engines import ENGINES, engine_types
from bes_api.router_config import DirectLoad, RouterConfig, StaticPolicy
from bes_api.scenario_of import scenario_of
from bes_api.service import EngineType
from bes_lab import clips, demo_picture, prediction
from bes_lab import live as live_module
from bes_lab.clips import Clip
from bes_lab.engine.process import EngineAddresses
from bes_lab.fidelity import records_of
from bes_lab.live import LiveRun, Stage, contender, median_of_buckets, run_live
from bes_lab.local.policies import choice_of, name_of, own_policy
from bes_lab.replay import report
from bes_lab.results import Recorder

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Two seconds of traffic for the sample on one GPU."""
    folder = tmp_path_factory.mktemp("live")
    file = folder / "service.yaml"
    file.write_text(re.sub(r"(gpus|replicas): 4", r"\1: 1", PAPER.read_text(encoding="utf-8")), encoding="utf-8")
    service, profiles = the_service(file)
    scenario = scenario_of(service, profiles)
    clip = Clip("test", "", "", (1, 3), 1)
    arrivals = clips.arrivals(clip, 30.0, 1.0, 1.0, 1, scenario.tasks)
    return Stage(
        service.name, scenario, DirectLoad(), own_policy(service)[1], arrivals, folder, engine_types(service.spec)
    )


@pytest.fixture(scope="module")
def live(stage: Stage) -> LiveRun:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(live_module, "DRAIN_SECONDS", 60.0)  # a slow machine answers late, and answers
        return run_live(stage, contender(StaticPolicy(model="opt-1.3b")), attempts=3)


def compare(stage: Stage, live: LiveRun, near: Callable[[LiveRun], bool]) -> None:
    """Figures of three valid runs at most: one of them is as it should be, or none was and that is our fault."""
    for run in (live, None, None):
        found = run or run_live(stage, live.contender, attempts=1)
        if not found.summary.valid:
            pytest.skip(f"this machine was too busy for a valid run: {'; '.join(found.summary.invalid_because)}")
        if near(found):
            return
    pytest.fail(f"three valid runs, and the last one had {found.summary}")


def test_a_live_run_answers_everything_with_the_model_that_was_asked_for(stage: Stage, live: LiveRun) -> None:
    assert live.contender.name == "Static(opt-1.3b)"
    assert live.summary.statuses == {"200": stage.arrivals.time.size}
    assert live.summary.models == {"opt-1.3b": stage.arrivals.time.size}
    assert set(live.cpu_seconds) == {"gpu-0", "router"}
    assert live.router_p50_seconds > 1e-6


def test_the_engines_of_a_live_run_are_of_the_type_that_the_service_says(stage: Stage, live: LiveRun) -> None:
    said = EngineAddresses.read(stage.folder / "Static-opt-1.3b" / "gpu-0.json").engines
    assert {engine.model: engine.type for engine in said} == stage.engines
    assert set(stage.engines.values()) == {EngineType.TEXT_GENERATION_INFERENCE}
    listed = RouterConfig.read(stage.folder / "Static-opt-1.3b" / "router.json").discovery
    assert isinstance(listed, StaticBackends)
    assert {backend.gauges for backend in listed.backends} == {ENGINES[said[0].type].metrics.in_flight}


def test_a_live_run_delivers_the_quality_of_its_model(stage: Stage, live: LiveRun) -> None:
    compare(stage, live, lambda run: run.summary.performance == pytest.approx(0.87, abs=0.05))


@pytest.mark.slow  # compiles the simulator
def test_the_simulator_predicts_the_live_run(stage: Stage, live: LiveRun) -> None:
    @cache
    def predicted() -> prediction.Prediction:
        return prediction.predict(stage.scenario, stage.arrivals, live.contender.choice)

    def near(run: LiveRun) -> bool:
        latency = pytest.approx(predicted().latency_p50, rel=0.15, abs=0.015)
        performance = pytest.approx(predicted().performance, abs=0.05)
        return run.summary.performance == performance and run.summary.latency_from_send.p50 == latency

    compare(stage, live, near)


def test_fidelity_records_say_how_far_apart_they_are_and_an_invalid_run_fails(stage: Stage, live: LiveRun) -> None:
    predicted = prediction.Prediction(live.summary.performance - 0.04, 1.0, live.summary.latency_from_send.p50)
    made_by = Recorder("test", None, {}, "", "")
    performance, latency, router = records_of("opt-paper", live, predicted, made_by)
    if live.summary.valid:
        assert performance.measured == pytest.approx(4.0)
        assert latency.met is True
    assert performance.met is False
    assert router.bar is None


def test_table_and_pictures_are_made(stage: Stage, live: LiveRun, tmp_path: Path) -> None:
    report.write_json(live.summary.as_json(), tmp_path / "replay.json")
    assert json.loads((tmp_path / "replay.json").read_text())["requests"] == stage.arrivals.time.size
    report.draw(stage.scenario, live.outcomes, "test", tmp_path / "replay.png")
    demo_picture.draw([live], 30.0, "test", tmp_path / "report.png")
    for name in ("replay.png", "report.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "name"),
    [("opt-6.7b", "Static(opt-6.7b)"), ("Priced", "Priced"), ("Threshold/LeastFinish", "Threshold/LeastFinish")],
)
def test_policies_are_named_as_commands_take_them(stage: Stage, text: str, name: str) -> None:
    assert name_of(choice_of(text, stage.scenario)) == name


def test_the_routers_median_is_interpolated_in_its_bucket() -> None:
    page = "\n".join(
        f'bes_router_dispatch_seconds_bucket{{le="{bound}"}} {count}'
        for bound, count in (("1e-05", 0.0), ("2e-05", 10.0), ("+Inf", 10.0))
    )
    assert median_of_buckets(page) == pytest.approx(1.5e-5)
    assert median_of_buckets("") != median_of_buckets("")


def test_json_has_null_where_there_is_no_number() -> None:
    assert (
        report.to_json({"a": float("nan"), "b": [float("inf"), 1.5]})
        == '{\n  "a": null,\n  "b": [\n    null,\n    1.5\n  ]\n}'
    )
