"""Each rule of the table is broken by its own example, and by nothing else."""

import pytest
from hypothesis import given, settings
from service_samples import Data, changed, parsed, sample, services

from bes_api.location import field_path
from bes_api.rules import RULES, violations


def _without_engine() -> Data:
    data = changed("spec", "engine", to=None)
    data["spec"]["models"][0]["engine"] = {"type": "VLLM"}
    return data


def _other_class() -> Data:
    return changed("spec", "acceleratorGroups", 0, "class", to="L4")


def _other_class_with_its_own_profile() -> Data:
    data = _other_class()
    data["spec"]["models"][0]["profile"] = {"configMapRef": {"name": "measured"}}
    return data


SPEC, MODEL, TASK = "spec", ("spec", "models", 0), ("spec", "tasks", 0)
GROUP = {"name": "a", "class": "A100-80GB", "gpus": 2}
PROMETHEUS: Data = {"url": "http://prometheus.monitoring:9090", "scrapeInterval": "15s"}
SECURED: Data = {
    "url": "https://[::1]:9090/path",
    "matchers": {"namespace": "x"},
    "joinLabel": "kubernetes_pod",
    "caConfigMapRef": {"name": "ca"},
    "authorizationSecretRef": {"name": "prometheus", "key": "token"},
}
VOLUME: Data = {"name": "data", "emptyDir": {}}
DIGEST = "sha256:" + "a" * 64


def _pod(**fields: object) -> Data:
    return changed(SPEC, "engine", "pod", to=fields)


BROKEN: dict[str, tuple[Data, list[str]]] = {
    "service-name": (changed("metadata", "name", to="opt-1.3b"), ["metadata.name"]),
    "named-like-service": (changed("metadata", "name", to="search"), ["spec.tasks[1].name"]),
    "group-twice": (changed(SPEC, "acceleratorGroups", to=[GROUP, GROUP]), ["spec.acceleratorGroups[1].name"]),
    "model-twice": (
        changed(SPEC, "models", to=[*sample()["spec"]["models"], sample()["spec"]["models"][1]]),
        ["spec.models[2].name"],
    ),
    "task-twice": (changed(SPEC, "tasks", 1, "name", to="chat"), ["spec.tasks[1].name"]),
    "engine-missing": (_without_engine(), ["spec.models[1]"]),
    "group-unknown": (changed(*MODEL, "accelerator", "group", to="b"), ["spec.models[0].accelerator.group"]),
    "group-memory": (changed(*MODEL, "replicas", to=21), ["spec.acceleratorGroups[0]"]),
    "preset-class": (_other_class(), ["spec.models[0].profile"]),
    "default-task-unknown": (changed(SPEC, "defaultTask", to="other"), ["spec.defaultTask"]),
    "task-named-like-model": (changed(SPEC, "tasks", 1, "name", to="small"), ["spec.tasks[1].name"]),
    "quality-model-unknown": (changed(*TASK, "quality", "opt-1.3b", to="0.5"), ["spec.tasks[0].quality[opt-1.3b]"]),
    "tokens-too-many": (changed(*TASK, "tokens", "prompt", to=2033), ["spec.tasks[0].tokens"]),
    "static-model-unknown": (
        changed(SPEC, "policy", to={"type": "Static", "static": {"model": "none"}}),
        ["spec.policy.static.model"],
    ),
    "fallback-model-unknown": (
        changed(SPEC, "policy", to={"fallback": {"type": "Static", "static": {"model": "none"}}}),
        ["spec.policy.fallback.static.model"],
    ),
    "interference-unmeasured": (
        changed(SPEC, "acceleratorGroups", 0, "sharing", to="MPS"),
        ["spec.acceleratorGroups[0]"],
    ),
    "replicas-union": (changed(*MODEL, "replicaRange", to={"min": 1, "max": 2}), ["spec.models[0]"]),
    "replica-range-order": (changed(SPEC, "models", 1, "replicaRange", "min", to=4), ["spec.models[1].replicaRange"]),
    "profile-union": (changed(*MODEL, "profile", to={}), ["spec.models[0].profile"]),
    "preset-unknown": (changed(*MODEL, "profile", to={"preset": "opt-13b"}), ["spec.models[0].profile.preset"]),
    "profile-missing": (changed(*MODEL, "modelID", to="facebook/opt-13b"), ["spec.models[0].profile"]),
    "quality-range": (changed(*TASK, "quality", "small", to="1.1"), ["spec.tasks[0].quality.small"]),
    "quality-nothing": (changed(*TASK, "quality", to={"small": "0", "large": "0.0"}), ["spec.tasks[0].quality"]),
    "deadline-union": (changed(*TASK, "deadline", to={}), ["spec.tasks[0].deadline"]),
    "deadline-hard-zero": (
        changed(SPEC, "tasks", 1, "deadline", "hard", "within", to="0s"),
        ["spec.tasks[1].deadline.hard.within"],
    ),
    "deadline-soft-zero": (
        changed(*TASK, "deadline", "soft", "fullUntil", to="0ms"),
        ["spec.tasks[0].deadline.soft.fullUntil"],
    ),
    "deadline-soft-order": (
        changed(*TASK, "deadline", "soft", "zeroFrom", to="600ms"),
        ["spec.tasks[0].deadline.soft.zeroFrom"],
    ),
    "load-union": (changed(SPEC, "load", to={"staleAfter": "3s"}), ["spec.load"]),
    "load-interval-zero": (changed(SPEC, "load", to={"direct": {"interval": "0s"}}), ["spec.load.direct.interval"]),
    "stale-early": (
        changed(SPEC, "load", to={"direct": {"interval": "1s"}, "staleAfter": "999ms"}),
        ["spec.load.staleAfter"],
    ),
    "ca-without-https": (
        changed(SPEC, "load", to={"prometheus": PROMETHEUS | {"caConfigMapRef": {"name": "ca"}}}),
        ["spec.load.prometheus.caConfigMapRef"],
    ),
    "join-label-matched": (
        changed(SPEC, "load", to={"prometheus": PROMETHEUS | {"matchers": {"pod": "x"}}}),
        ["spec.load.prometheus.matchers.pod"],
    ),
    "static-missing": (changed(SPEC, "policy", to={"type": "Static"}), ["spec.policy"]),
    "static-unused": (
        changed(SPEC, "policy", to={"type": "Priced", "static": {"model": "small"}}),
        ["spec.policy.static"],
    ),
    "fallback-static-missing": (
        changed(SPEC, "policy", to={"fallback": {"type": "Static"}}),
        ["spec.policy.fallback"],
    ),
    "fallback-static-unused": (
        changed(SPEC, "policy", to={"fallback": {"type": "Priced", "static": {"model": "small"}}}),
        ["spec.policy.fallback.static"],
    ),
    "source-union": (changed(SPEC, "policy", to={"source": {}}), ["spec.policy.source"]),
    "model-cache-union": (changed(SPEC, "engine", "modelCache", to={}), ["spec.engine.modelCache"]),
    "pod-label-reserved": (
        _pod(labels={"besteffort.dev/service": "x", "team": "y"}),
        ["spec.engine.pod.labels[besteffort.dev/service]"],
    ),
    "variable-union": (
        _pod(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
        ["spec.engine.pod.env[0]"],
    ),
    "variable-source-union": (_pod(env=[{"name": "A", "valueFrom": {}}]), ["spec.engine.pod.env[0].valueFrom"]),
    "volume-union": (_pod(volumes=[VOLUME | {"configMap": {"name": "x"}}]), ["spec.engine.pod.volumes[0]"]),
    "volume-reserved": (_pod(volumes=[VOLUME | {"name": "bes-cache"}]), ["spec.engine.pod.volumes[0].name"]),
    "mount-unknown": (
        _pod(volumes=[VOLUME], volumeMounts=[{"name": "other", "mountPath": "/data"}]),
        ["spec.engine.pod.volumeMounts[0].name"],
    ),
    "requests-above-limits": (
        changed(*MODEL, "resources", to={"limits": {"memory": "1Gi", "cpu": 2}, "requests": {"memory": "1025Mi"}}),
        ["spec.models[0].resources.requests.memory"],
    ),
    "claim-unknown": (
        changed(*MODEL, "resources", to={"claims": [{"name": "gpu"}]}),
        ["spec.models[0].resources.claims[0].name"],
    ),
    "claim-union": (changed(*MODEL, "resourceClaims", to=[{"name": "gpu"}]), ["spec.models[0].resourceClaims[0]"]),
    "margin-range": (
        changed(SPEC, "policy", to={"promotion": {"margin": "-0.01"}}),
        ["spec.policy.promotion.margin"],
    ),
}


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert set(BROKEN) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule_id", BROKEN)
def test_the_example_breaks_its_rule_and_no_other(rule_id: str) -> None:
    data, locations = BROKEN[rule_id]
    found = violations(parsed(data))
    assert [(violation.rule.id, field_path(violation.location)) for violation in found] == [
        (rule_id, location) for location in locations
    ]


def test_ids_and_messages_are_unique_and_messages_say_the_mend() -> None:
    assert len({rule.id for rule in RULES}) == len({rule.message for rule in RULES}) == len(RULES)
    assert [rule.id for rule in RULES if ": " not in rule.message] == []


def test_all_violations_are_reported_together() -> None:
    data = changed("metadata", "name", to="9")
    data["spec"]["defaultTask"] = "other"
    data["spec"]["models"][0]["replicaRange"] = {"min": 2, "max": 1}
    assert {violation.rule.id for violation in violations(parsed(data))} == {
        "service-name",
        "default-task-unknown",
        "replicas-union",
        "replica-range-order",
    }


def test_memory_counts_every_replica_on_the_fullest_gpu_at_the_ranges_maxima() -> None:
    data = sample()
    data["spec"]["models"][0]["accelerator"]["memoryPercent"] = 40
    data["spec"]["models"][1]["accelerator"] = {"group": "a", "memoryPercent": 30}
    assert {violation.rule.id for violation in violations(parsed(data))} == set()  # 40 + 2 * 30 on GPU 0
    data["spec"]["models"][1]["accelerator"]["memoryPercent"] = 31
    assert [violation.rule.id for violation in violations(parsed(data))] == ["group-memory"]


@given(services())
@settings(deadline=None, max_examples=50)
def test_random_valid_services_break_no_rule(data: Data) -> None:
    assert violations(parsed(data)) == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed(*MODEL, "replicas", to=None), {"replicas-union"}),
        (changed(*MODEL, "profile", to={"preset": "opt-125m", "configMapRef": {"name": "x"}}), {"profile-union"}),
        (changed(*TASK, "deadline", "hard", to={"within": "1s"}), {"deadline-union"}),
        (changed(*TASK, "quality", "small", to="-0.1"), {"quality-range"}),
        (changed(SPEC, "policy", to={"promotion": {"margin": "1.01"}}), {"margin-range"}),
        (changed("metadata", "name", to="small"), {"named-like-service"}),
        (changed(SPEC, "load", to={"prometheus": PROMETHEUS, "direct": {"interval": "1s"}}), {"load-union"}),
        (changed(SPEC, "load", to={"prometheus": PROMETHEUS, "staleAfter": "14s"}), {"stale-early"}),
        (
            changed(SPEC, "load", to={"prometheus": PROMETHEUS | {"scrapeInterval": "0s"}}),
            {"load-interval-zero"},
        ),
        (changed("metadata", "name", to="o" * 31), {"service-name"}),
        (
            changed(
                SPEC, "policy", to={"source": {"training": {}, "imported": {"configMapName": "a", "digest": DIGEST}}}
            ),
            {"source-union"},
        ),
        (changed(*MODEL, "engine", to={"modelCache": {}}), {"model-cache-union"}),
        (changed(SPEC, "router", to={"pod": {"volumes": [{"name": "bes-x"}]}}), {"volume-union", "volume-reserved"}),
        (
            changed(SPEC, "router", to={"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": 2}}}),
            {"requests-above-limits"},
        ),
    ],
)
def test_a_rule_is_broken_from_the_other_side_too(data: Data, expected: set[str]) -> None:
    assert {violation.rule.id for violation in violations(parsed(data))} == expected


@pytest.mark.parametrize(
    "data",
    [
        changed("metadata", "name", to="chat"),  # the default task may have the service's name: it means the same
        changed("metadata", "name", to="o" * 30),
        changed(*TASK, "quality", to={"small": "0", "large": "1"}),
        changed(*TASK, "tokens", to={"prompt": 2032, "output": 16}),
        changed(*TASK, "deadline", "soft", "zeroFrom", to="601ms"),
        changed(SPEC, "models", 1, "replicaRange", to={"min": 3, "max": 3}),
        changed(SPEC, "load", to={"direct": {"interval": "1s"}, "staleAfter": "1s"}),
        changed(SPEC, "load", to={"prometheus": PROMETHEUS, "staleAfter": "15s"}),
        changed(SPEC, "load", to={"prometheus": PROMETHEUS | SECURED}),
        changed(SPEC, "policy", to={"promotion": {"margin": "0"}}),
        changed(SPEC, "policy", to={"promotion": {"margin": "1"}}),
        _other_class_with_its_own_profile(),
        changed(SPEC, "policy", to={"source": {"imported": {"configMapName": "a", "digest": DIGEST}}}),
        _pod(labels={"team": "a"}, volumes=[VOLUME], volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        changed(*MODEL, "resources", to={"limits": {"memory": "1Gi", "cpu": 2}, "requests": {"memory": "1024Mi"}}),
        changed(SPEC, "policy", to={"type": "Static", "static": {"model": "large"}}),
        changed(SPEC, "acceleratorGroups", to=[GROUP | {"sharing": "MPS", "interferencePercent": 0}]),
    ],
)
def test_what_is_just_inside_a_rule_is_taken(data: Data) -> None:
    assert violations(parsed(data)) == ()
