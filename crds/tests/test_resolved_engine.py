"""A model's engine: its own members first, the service's beyond them; image and args only for the same program."""

import pytest
from service_samples import Data, parsed, sample

from bes_api.errors import ScenarioError
from bes_api.resolved_engine import ResolvedEngine, engine_of
from bes_api.service import EngineType, written

SHARED: Data = {
    "type": "VLLM",
    "image": "registry.example/vllm:v1",
    "args": ["--a"],
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "modelCache": {"persistentVolumeClaim": {"claimName": "hf"}},
    "hubTokenSecretRef": {"name": "hub"},
    "pod": {
        "nodeSelector": {"gpu": "a100"},
        "env": [{"name": "A", "value": "1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    },
}


def resolved(shared: Data | None, own: Data | None) -> ResolvedEngine:
    data = sample()
    data["spec"]["engine"] = shared
    data["spec"]["models"][0]["engine"] = own
    spec = parsed(data).spec
    return engine_of(spec, spec.models[0])


def test_a_model_that_states_nothing_has_the_services_engine() -> None:
    engine = resolved(SHARED, None)
    assert (engine.type, engine.image, engine.args) == (EngineType.VLLM, "registry.example/vllm:v1", ("--a",))
    assert [written(secret) for secret in engine.image_pull_secrets] == [{"name": "pull"}]
    assert engine.hub_token_secret_ref is not None
    assert engine.hub_token_secret_ref.key == "token"
    assert written(engine.pod) == SHARED["pod"]


def test_another_program_inherits_neither_image_nor_args_but_all_else() -> None:
    engine = resolved(SHARED, {"type": "TextGenerationInference"})
    assert (engine.type, engine.image, engine.args) == (EngineType.TEXT_GENERATION_INFERENCE, None, ())
    assert engine.image_pull_policy == "Always"
    assert engine.model_cache is not None


def test_the_same_program_named_again_inherits_them() -> None:
    engine = resolved(SHARED, {"type": "VLLM", "args": ["--b"]})
    assert (engine.image, engine.args) == ("registry.example/vllm:v1", ("--b",))


def test_empty_args_are_a_statement() -> None:
    assert resolved(SHARED, {"args": []}).args == ()


def test_without_a_type_of_the_service_a_model_has_its_own_image_only() -> None:
    engine = resolved({"image": "x:1"}, {"type": "VLLM"})
    assert (engine.type, engine.image) == (EngineType.VLLM, None)


def test_members_of_the_pod_are_overridden_one_by_one() -> None:
    pod = resolved(SHARED, {"pod": {"nodeSelector": {"gpu": "l4"}}}).pod
    assert written(pod) == SHARED["pod"] | {"nodeSelector": {"gpu": "l4"}}


@pytest.mark.parametrize("member", ["volumes", "volumeMounts"])
def test_volumes_and_their_mounts_are_inherited_together_or_not_at_all(member: str) -> None:
    pod = written(resolved(SHARED, {"pod": {member: []}}).pod)
    assert {"volumes", "volumeMounts"} & set(pod) == {member}
    assert pod["env"] == SHARED["pod"]["env"]


def test_no_type_anywhere_is_an_error_that_names_the_model() -> None:
    with pytest.raises(ScenarioError, match=r"model 'small' has no engine: set spec\.engine\.type"):
        resolved({"image": "x:1"}, {"args": []})
