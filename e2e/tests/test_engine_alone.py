"""`python -m bes_lab.engine FILE --model NAME`: one replica of one model on a GPU of its own, as a pod runs it."""

import contextlib
import http.client
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bes_api.scenario import Scenario
from bes_lab.engine.alone import alone
from bes_lab.errors import TargetError
from bes_lab.scenario_file import read_scenario
from bes_router.policy.catalogue import catalogue_of

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.fixture
def paper() -> Scenario:
    return read_scenario(PAPER)


def test_a_model_alone_keeps_its_profile_and_limits_and_has_a_gpu_for_itself(paper: Scenario) -> None:
    model = paper.models[1]
    reduced = alone(paper, model.name)
    catalogue = catalogue_of(reduced)
    assert (list(catalogue.gpu_engine), list(catalogue.interference)) == ([0], [0.0])
    assert reduced.models[0].latency == model.latency
    assert reduced.models[0].max_batch_size == model.max_batch_size
    assert Scenario.model_validate(reduced.model_dump()) == reduced


def test_a_model_that_the_scenario_does_not_have_is_named_with_those_it_has(paper: Scenario) -> None:
    with pytest.raises(TargetError, match=rf"--model nobody: .* it has {paper.models[0].name}"):
        alone(paper, "nobody")


@pytest.mark.slow
def test_the_image_s_command_serves_that_one_model_and_ends_on_sigterm(paper: Scenario, tmp_path: Path) -> None:
    scenario, name = tmp_path / "scenario.json", paper.models[0].name
    scenario.write_text(paper.model_dump_json())
    command = [sys.executable, "-m", "bes_lab.engine", str(scenario), "--model", name]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert engine.stdout is not None
        said = engine.stdout.readline()
        url = next(word for word in said.split() if word.startswith("http://"))
        with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)) as asking:
            asking.request("GET", "/v1/models")
            assert name in asking.getresponse().read().decode()
        engine.send_signal(signal.SIGTERM)
        assert engine.communicate(timeout=30) == ("", None)
        assert engine.returncode == 0
    finally:
        engine.kill()
        engine.communicate()
