from dataclasses import replace
from typing import Any

import pytest
from desired_samples import EMULATED, EVERYTHING, SETTINGS, changed, profiles_in, request_for, service_in

from bes_api.config_map import data_digest, files_in
from bes_api.router_config import RouterConfig, StaticPolicy
from bes_api.service_status import ConditionType, Reason
from bes_operator.desired.objects import desired_objects
from bes_operator.desired.references import profile_names, references
from bes_operator.desired.request import Desired
from bes_operator.labels import COMPONENT, MANAGED_BY, MANAGER, SERVICE
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.names import engine_name, router_name
from bes_operator.policy.seen import PolicyPart

STARTED = {"Deployment", "Job"}


def keys(request: Desired) -> list[Key]:
    return [key_of(manifest) for manifest in desired_objects(request).manifests]


def found(request: Desired, kind: str, name: str) -> dict[str, Any]:
    return dict(next(m for m in desired_objects(request).manifests if key_of(m) == Key(kind, "apps", name)))


def engine(request: Desired, model: str) -> dict[str, Any]:
    return found(request, "Deployment", engine_name(request.service.name, model))


def mounted_by(deployment: Manifest) -> set[tuple[str, str]]:
    pod = deployment["spec"]["template"]["spec"]
    named = {("ServiceAccount", pod["serviceAccountName"])} if "serviceAccountName" in pod else set()
    for volume in pod["volumes"]:
        named |= {("ConfigMap", volume["configMap"]["name"])} if "configMap" in volume else set()
        named |= {("Secret", volume["secret"]["secretName"])} if "secret" in volume else set()
    return named


@pytest.mark.parametrize("source", [EVERYTHING, EMULATED], ids=lambda path: path.stem)
def test_nothing_starts_before_what_it_mounts(source: Any) -> None:
    request = request_for(source)
    applied: set[tuple[str, str]] = set()
    ours = {(key.kind, key.name) for key in keys(request)}
    for manifest in desired_objects(request).manifests:
        if manifest["kind"] in STARTED:
            assert mounted_by(manifest) & ours <= applied
        applied.add((manifest["kind"], manifest["metadata"]["name"]))


@pytest.mark.parametrize("source", [EVERYTHING, EMULATED], ids=lambda path: path.stem)
def test_every_child_says_whose_it_is_and_blocks_nobody(source: Any) -> None:
    request = request_for(source)
    assert len(keys(request)) == len(set(keys(request)))
    for manifest in desired_objects(request).manifests:
        labels = manifest["metadata"]["labels"]
        assert (labels[MANAGED_BY], labels[SERVICE]) == (MANAGER, request.service.name)
        assert COMPONENT in labels
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (request.uid, True)
        assert "blockOwnerDeletion" not in owner


@pytest.mark.parametrize("source", [EVERYTHING, EMULATED], ids=lambda path: path.stem)
def test_selectors_select_the_pods_of_their_own_component_alone(source: Any) -> None:
    manifests = desired_objects(request_for(source)).manifests
    pods = [m["spec"]["template"]["metadata"]["labels"] for m in manifests if m["kind"] == "Deployment"]
    for manifest in manifests:
        if manifest["kind"] in {"Service", "Deployment", "PodDisruptionBudget"}:
            selector = manifest["spec"]["selector"]
            wanted = selector.get("matchLabels", selector).items()
            assert sum(wanted <= labels.items() for labels in pods) == 1


def test_pods_get_no_token_and_no_environment_of_services_unless_they_need_it() -> None:
    for manifest in desired_objects(request_for(EVERYTHING)).manifests:
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            assert pod["enableServiceLinks"] is False
            assert pod["automountServiceAccountToken"] is (manifest["metadata"]["name"] == "everything-router")


def test_a_pods_grace_lasts_longer_than_what_happens_in_it() -> None:
    for manifest in desired_objects(request_for(EVERYTHING)).manifests:
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            hook = pod["containers"][0].get("lifecycle")
            slept = int(hook["preStop"]["exec"]["command"][1]) if hook else 0
            assert pod["terminationGracePeriodSeconds"] > slept


def test_the_routers_grace_covers_propagation_and_drain() -> None:
    request = request_for(EMULATED)
    limits = configuration(request).limits
    pod = found(request, "Deployment", "demo-router")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > limits.propagation_seconds + limits.drain_timeout_seconds
    assert limits.propagation_seconds > 0


def configuration(request: Desired) -> RouterConfig:
    config_map = found(request, "ConfigMap", router_name(request.service.name))
    return RouterConfig.of_files(files_in(config_map), "the ConfigMap")


def test_gpus_have_no_spare_and_emulated_engines_without_one_do() -> None:
    request = request_for(EMULATED)
    no_spare = {"maxSurge": 0, "maxUnavailable": 1}
    assert engine(request, "opt-125m")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert engine(request, "opt-1.3b")["spec"]["strategy"]["rollingUpdate"] == no_spare
    assert engine(request_for(EVERYTHING), "llama-8b")["spec"]["strategy"]["rollingUpdate"] == no_spare


def test_an_image_and_arguments_are_not_given_to_another_program() -> None:
    container = engine(request_for(EVERYTHING), "llama-8b")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"].startswith("ghcr.io/huggingface/text-generation-inference:")
    assert container["args"][-2:] == ["--quantize", "eetq"]
    assert "--tensor-parallel-size" not in container["args"]


def test_a_low_port_can_be_bound_without_the_other_capabilities() -> None:
    request = request_for(EVERYTHING)
    low = engine(request, "llama-8b")["spec"]["template"]["spec"]["containers"][0]
    high = engine(request, "opt-125m")["spec"]["template"]["spec"]["containers"][0]
    assert low["ports"][0]["containerPort"] < 1024 <= high["ports"][0]["containerPort"]
    assert low["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert high["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_only_models_that_bring_no_chat_template_get_ours() -> None:
    request = request_for(EVERYTHING)
    pods = {name: engine(request, name)["spec"]["template"]["spec"] for name in ("opt-125m", "llama-8b")}
    names = {name: [volume["name"] for volume in pod["volumes"]] for name, pod in pods.items()}
    assert "bes-chat-template" in names["opt-125m"]
    assert "bes-chat-template" not in names["llama-8b"]
    (path,) = [arg for arg in pods["opt-125m"]["containers"][0]["args"] if arg.startswith("/etc/best-effort/chat")]
    files = files_in(found(request, "ConfigMap", "everything-chat-template"))
    assert set(files) == {path.rpartition("/")[2]}


def test_the_operators_labels_win_over_those_of_the_resource() -> None:
    def disguise(spec: dict[str, Any]) -> None:
        spec["router"]["pod"] = {"labels": {COMPONENT: "engine", "team": "a"}}

    request = request_for(EMULATED, service=changed(service_in(EMULATED), disguise))
    labels = found(request, "Deployment", "demo-router")["spec"]["template"]["metadata"]["labels"]
    assert (labels[COMPONENT], labels["team"]) == ("router", "a")


def test_a_change_of_another_model_does_not_roll_an_emulated_engine() -> None:
    def grow(spec: dict[str, Any]) -> None:
        spec["models"][0]["replicas"] = 5  # the other model's GPUs come after these
        spec["tasks"][0]["deadline"]["hard"]["within"] = "900ms"

    def slow(spec: dict[str, Any]) -> None:
        spec["models"][1]["profile"] = {"preset": "opt-6.7b"}

    before = request_for(EMULATED)
    grown = request_for(EMULATED, service=changed(service_in(EMULATED), grow))
    slower = request_for(EMULATED, service=changed(service_in(EMULATED), slow))
    template = engine(before, "opt-1.3b")["spec"]["template"]
    assert engine(grown, "opt-1.3b")["spec"]["template"] == template
    assert engine(slower, "opt-1.3b")["spec"]["template"] != template


def test_a_configuration_or_a_policy_never_rolls_routers() -> None:
    def more(spec: dict[str, Any]) -> None:
        spec["models"][1]["replicas"] = 5
        spec["policy"] = {"type": "Static", "static": {"model": "opt-125m"}}

    policy = PolicyPart(StaticPolicy(model="opt-125m"), active={"passport.json": b"{}"})
    other = request_for(EMULATED, service=changed(service_in(EMULATED), more), policy=policy)
    router = found(request_for(EMULATED), "Deployment", "demo-router")
    assert found(other, "Deployment", "demo-router")["spec"] == router["spec"]
    assert configuration(other) != configuration(request_for(EMULATED))


def test_a_rule_that_names_a_model_which_is_gone_gives_way_to_the_fallback() -> None:
    gone = configuration(request_for(EMULATED, policy=PolicyPart(StaticPolicy(model="opt-66b"))))
    assert gone.policy == gone.fallback


def test_both_policy_folders_are_there_before_there_is_a_policy() -> None:
    request = request_for(EMULATED)
    assert files_in(found(request, "ConfigMap", "demo-active")) == {}
    assert files_in(found(request, "ConfigMap", "demo-candidate")) == {}


def test_an_artifacts_digest_survives_its_config_map() -> None:
    files = {"passport.json": b'{"kind": "Learned"}', "weights.safetensors": b"\x08\x00\xff\xfe"}
    request = request_for(EMULATED, policy=replace(request_for(EMULATED).policy, active=files))
    assert data_digest(files_in(found(request, "ConfigMap", "demo-active"))) == data_digest(files)


def test_an_account_for_trainings_is_there_only_where_one_may_run() -> None:
    training = {Key("ServiceAccount", "apps", "demo-training"), Key("RoleBinding", "apps", "demo-training")}
    assert training <= set(keys(request_for(EMULATED)))
    assert not [key for key in keys(request_for(EVERYTHING)) if "training" in key.name]


def test_a_single_router_has_no_budget_that_could_never_be_kept() -> None:
    def single(spec: dict[str, Any]) -> None:
        spec["router"]["replicas"] = 1

    request = request_for(EMULATED, service=changed(service_in(EMULATED), single))
    assert "PodDisruptionBudget" not in {key.kind for key in keys(request)}
    assert "PodDisruptionBudget" in {key.kind for key in keys(request_for(EMULATED))}


def refusal(request: Desired) -> tuple[ConditionType, Reason, str]:
    wanted = desired_objects(request)
    (complaint,) = wanted.complaints
    assert wanted.steps == ()
    assert wanted.keep_all
    return complaint.condition, complaint.reason, complaint.message


def test_without_a_profile_nothing_is_applied_and_nothing_pruned() -> None:
    kind, reason, message = refusal(request_for(EVERYTHING, profiles={}))
    assert (kind, reason) == (ConditionType.STALLED, Reason.PROFILE_MISSING)
    assert "llama-8b-a100" in message


@pytest.mark.parametrize("data", [{"prefillBaseMs": "fast"}, {}, None])
def test_an_unreadable_profile_is_named_with_its_fields(data: Any) -> None:
    broken = {name: {**manifest, "data": data} for name, manifest in profiles_in(EVERYTHING).items()}
    kind, reason, message = refusal(request_for(EVERYTHING, profiles=broken))
    assert (kind, reason) == (ConditionType.STALLED, Reason.PROFILE_UNREADABLE)
    assert "llama-8b-a100" in message
    assert "prefillBaseMs" in message


def test_a_profile_that_does_not_fit_its_model_is_refused() -> None:
    small = {n: {**m, "data": {**m["data"], "kvCacheTokens": "100"}} for n, m in profiles_in(EVERYTHING).items()}
    assert refusal(request_for(EVERYTHING, profiles=small))[1] is Reason.PROFILE_UNREADABLE


@pytest.mark.parametrize("gpus", [1, 2])
def test_emulated_engines_that_share_a_gpu_are_refused_on_a_cluster(gpus: int) -> None:
    def share(spec: dict[str, Any]) -> None:
        spec["acceleratorGroups"] = [{"name": "a", "class": "A100-80GB", "gpus": gpus}]
        spec["models"][0]["accelerator"] = {"group": "a", "memoryPercent": 5}
        if gpus == 2:
            spec["models"][1]["accelerator"] = {"group": "a", "memoryPercent": 18}

    kind, reason, message = refusal(request_for(EMULATED, service=changed(service_in(EMULATED), share)))
    assert (kind, reason) == (ConditionType.STALLED, Reason.EMULATED_GPU_SHARED)
    assert "opt-125m" in message


def test_a_group_that_emulated_engines_have_to_themselves_is_no_sharing() -> None:
    def alone(spec: dict[str, Any]) -> None:
        spec["acceleratorGroups"] = [{"name": "a", "class": "A100-80GB", "gpus": 2}]
        spec["models"][0]["accelerator"] = {"group": "a", "memoryPercent": 5}

    assert desired_objects(request_for(EMULATED, service=changed(service_in(EMULATED), alone))).complaints == ()


def test_engines_that_serve_are_left_alone_while_what_they_name_is_missing() -> None:
    request = request_for(EVERYTHING, missing=frozenset({Key("Secret", "apps", "licence")}))
    names = [engine_name("everything", name) for name in ("opt-125m", "opt-1.3b", "llama-8b")]
    engines = {Key("Deployment", "apps", name) for name in names}
    assert engines <= {key_of(manifest) for manifest in desired_objects(request).manifests}
    live = {key_of(manifest): manifest for manifest in desired_objects(request).manifests}
    wanted = desired_objects(replace(request, live=live))
    assert wanted.keep == engines
    assert not engines & {key_of(manifest) for manifest in wanted.manifests}
    assert {each.reason for each in wanted.complaints} == {Reason.SECRET_MISSING}


def test_everything_that_pods_cannot_start_without_is_a_reference() -> None:
    named = {(each.kind, each.name) for each in references(service_in(EVERYTHING))}
    assert named == {
        ("ConfigMap", "prometheus-ca"),
        ("Secret", "prometheus-token"),
        ("Secret", "hf"),
        ("Secret", "licence"),
        ("ConfigMap", "extra-files"),
    }
    assert profile_names(service_in(EVERYTHING)) == ("llama-8b-a100",)


def test_the_same_request_always_gives_the_same_objects() -> None:
    assert desired_objects(request_for(EVERYTHING)) == desired_objects(request_for(EVERYTHING))


def test_images_are_the_operators() -> None:
    request = request_for(EMULATED)
    images = {
        manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        for manifest in desired_objects(request).manifests
        if manifest["kind"] == "Deployment"
    }
    assert images == {SETTINGS.images.router, SETTINGS.images.engine}
