"""Samples for clusters: services that bes_api takes, native objects that Kubernetes takes, names that meet."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bes_api.documents import the_service
from bes_api.service import EngineType

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
SERVICES = [path for path in FILES if yaml.safe_load(path.read_text())["kind"] == "BestEffortService"]
NATIVE = [path for path in FILES if path not in SERVICES]


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def name_of(path: Path) -> str:
    return path.name


def test_every_way_to_serve_has_its_sample() -> None:
    engines = {engine.type for path in SERVICES if (engine := the_service(path)[0].spec.engine) is not None}
    assert engines == set(EngineType)


@pytest.mark.parametrize("path", SERVICES, ids=name_of)
def test_every_sample_is_a_service_that_breaks_no_rule(path: Path) -> None:
    service, profiles = the_service(path)
    assert service.name == "opt"
    assert dict(profiles) == {}  # presets alone: nothing else has to be applied first


@pytest.mark.parametrize("path", NATIVE, ids=name_of)
@pytest.mark.parametrize("version", ["1.29", "newest"])
def test_every_other_object_has_the_form_that_the_oldest_and_the_newest_kubernetes_know(
    path: Path, version: str
) -> None:
    version = kubernetes_validate.latest_version() if version == "newest" else version
    kubernetes_validate.validate(document(path.name), version, strict=True)


@pytest.mark.parametrize("path", [path for path in SERVICES if "emulated" in path.name], ids=name_of)
def test_emulated_engines_have_a_gpu_each_because_pods_cannot_share_one(path: Path) -> None:
    service = the_service(path)[0]
    assert service.spec.accelerator_groups == ()
    assert all(model.accelerator is None for model in service.spec.models)


def test_the_two_emulated_samples_differ_in_nothing_but_the_gpus_asked_for() -> None:
    plain, with_gpus = document("opt-emulated.yaml"), document("opt-emulated-gpus.yaml")
    for model in with_gpus["spec"]["models"]:
        assert model.pop("resources") == {"limits": {"nvidia.com/gpu": "1"}}
    assert with_gpus == plain


@pytest.mark.parametrize("path", [path for path in SERVICES if "emulated" not in path.name], ids=name_of)
def test_real_engines_ask_for_a_gpu_and_keep_their_weights_on_the_volume_of_the_sample(path: Path) -> None:
    service = the_service(path)[0]
    claim = document("model-cache.yaml")["metadata"]["name"]
    assert service.spec.engine is not None
    assert service.spec.engine.model_cache is not None
    assert service.spec.engine.model_cache.persistent_volume_claim is not None
    assert service.spec.engine.model_cache.persistent_volume_claim.claim_name == claim
    wanted = "nvidia.com/gpu.shared" if service.spec.accelerator_groups else "nvidia.com/gpu"
    for model in document(path.name)["spec"]["models"]:
        assert model["resources"]["limits"][wanted] == "1"


def test_a_gpu_is_offered_as_often_as_models_share_it() -> None:
    service = the_service(FOLDER / "opt-time-sliced.yaml")[0]
    shared = yaml.safe_load(document("time-slicing.yaml")["data"]["shared"])["sharing"]["timeSlicing"]
    assert shared["renameByDefault"] is True  # nvidia.com/gpu.shared
    assert [each["replicas"] for each in shared["resources"]] == [len(service.spec.models)]
