"""What docs/extending.md promises: a policy of one's own is installed, simulated and judged, and it routes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from lab_http import complete
from lab_scenarios import scenario as two_models

from bes_api.documents import the_service
from bes_api.router_config import DirectLoad, OwnPolicy, PolicyChoice, StaticPolicy
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import clips
from bes_lab.local.plan import Plan
from bes_lab.local.policies import choice_of, name_of, own_policy
from bes_lab.local.service import LocalService
from bes_router.policy import own
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.errors import OwnPolicyError
from bes_router.policy.load import load_policy
from bes_training.evaluation.contestants import contestants_of
from bes_training.simulation.plain import simulate_plainly
from bes_training.workloads.workload import Workload

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "opt-paper.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example's package has been installed as the page says."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    source = folder / "source"
    source.mkdir()
    for file in (ROOT / "examples" / "own_policy").iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())  # building leaves files beside what it builds
    site = folder / "site"
    subprocess.run((*pip, "--no-build-isolation", "--target", str(site), str(source)), check=True, timeout=600)
    return site


@pytest.fixture
def _installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For this process and for those that it starts."""
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH")))))
    yield
    sys.modules.pop("ladder", None)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return scenario_of(*the_service(EXAMPLE))


def burst(scenario: Scenario) -> Workload:
    """Ten seconds around the burst of the demo's clip, at three times what the largest model alone serves."""
    played = clips.arrivals(clips.load(clips.DEMO_CLIP), 62.0, 3.0, 1.0, 1, scenario.tasks)
    kept = (played.time >= 10.0) & (played.time < 20.0)
    time, task, prompt, output = (column[kept] for column in played)
    return Workload("burst/1", time - 10.0, task, prompt, output, np.zeros(len(time), np.int64), 10.0)


def performance(scenario: Scenario, choice: PolicyChoice) -> float:
    policy = load_policy(choice, scenario, catalogue_of(scenario))
    outcomes = simulate_plainly(scenario, burst(scenario), policy)
    return float(outcomes.reward.sum() / outcomes.peak.sum())


@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_the_installed_policy_is_found_by_its_name_and_beats_every_model_alone(scenario: Scenario) -> None:
    choice = choice_of("Ladder", scenario)
    assert choice == OwnPolicy(name="Ladder")
    assert name_of(choice) == "Ladder"
    alone = {model.name: performance(scenario, StaticPolicy(model=model.name)) for model in scenario.models}
    assert performance(scenario, choice) > max(alone.values())


@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_the_installed_policy_takes_part_in_an_evaluation(scenario: Scenario) -> None:
    policies = contestants_of(scenario, ["Ladder"]).policies
    outcomes = policies["Ladder"](burst(scenario))
    assert len(set(outcomes.model.tolist())) > 1
    assert 0.5 < outcomes.reward.sum() / outcomes.peak.sum() < 1.0


@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_the_installed_policy_routes(tmp_path: Path) -> None:
    service, _ = the_service(EXAMPLE)
    _, fallback = own_policy(service)
    plan = Plan("own", two_models(), OwnPolicy(name="Ladder"), fallback, DirectLoad(), tmp_path)
    with LocalService(plan) as running:
        answer = complete(int(running.url.rpartition(":")[2]), "hard", 8, 4)
    assert answer.status == 200
    assert answer.headers["x-bes-policy"] == "Ladder"
    assert answer.headers["x-bes-model"] == "large", "idle, the best model is not crowded"


def made(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    points = {"Mine": EntryPoint("Mine", value, own.GROUP)}
    monkeypatch.setattr(own, "installed", lambda: points)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_module_here:Policy", r"policy Mine \(no_such_module_here:Policy\) cannot be made"),
        ("builtins:open", "cannot be made"),
        ("builtins:isinstance", "cannot be made"),
        ("operator:is_", "expected an object with a name and choose"),
    ],
)
def test_a_policy_that_fails_is_a_reason_for_the_fallback_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    made(monkeypatch, value)
    with pytest.raises(OwnPolicyError, match=says):
        load_policy(OwnPolicy(name="Mine"), two_models(), catalogue_of(two_models()))


def test_a_name_that_is_not_installed_lists_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made(monkeypatch, "ladder:Ladder")
    with pytest.raises(OwnPolicyError, match=r"no policy 'Other' is installed \(there is Mine\)"):
        own.load("Other", two_models(), catalogue_of(two_models()))
