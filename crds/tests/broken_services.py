"""For each rule of the table a service that breaks it and nothing else, and where."""

from service_samples import Data, changed, sample


def without_engine() -> Data:
    data = changed("spec", "engine", to=None)
    data["spec"]["models"][0]["engine"] = {"type": "VLLM"}
    return data


def other_class() -> Data:
    return changed("spec", "acceleratorGroups", 0, "class", to="L4")


def other_class_with_its_own_profile() -> Data:
    data = other_class()
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


def pod(**fields: object) -> Data:
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
    "engine-missing": (without_engine(), ["spec.models[1]"]),
    "group-unknown": (changed(*MODEL, "accelerator", "group", to="b"), ["spec.models[0].accelerator.group"]),
    "group-memory": (changed(*MODEL, "replicas", to=21), ["spec.acceleratorGroups[0]"]),
    "preset-class": (other_class(), ["spec.models[0].profile"]),
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
    "load-scrapes-rare": (
        changed(SPEC, "load", to={"prometheus": PROMETHEUS | {"scrapeInterval": "121s"}, "staleAfter": "10m"}),
        ["spec.load.prometheus.scrapeInterval"],
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
    "element-twice": (pod(volumes=[VOLUME, VOLUME]), ["spec.engine.pod.volumes[1].name"]),
    "mount-twice": (
        pod(volumes=[VOLUME], volumeMounts=[{"name": "data", "mountPath": "/data"}] * 2),
        ["spec.engine.pod.volumeMounts[1].mountPath"],
    ),
    "model-cache-union": (changed(SPEC, "engine", "modelCache", to={}), ["spec.engine.modelCache"]),
    "pod-label-reserved": (
        pod(labels={"besteffort.dev/service": "x", "team": "y"}),
        ["spec.engine.pod.labels[besteffort.dev/service]"],
    ),
    "variable-union": (
        pod(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
        ["spec.engine.pod.env[0]"],
    ),
    "variable-source-union": (pod(env=[{"name": "A", "valueFrom": {}}]), ["spec.engine.pod.env[0].valueFrom"]),
    "volume-union": (pod(volumes=[VOLUME | {"configMap": {"name": "x"}}]), ["spec.engine.pod.volumes[0]"]),
    "volume-reserved": (pod(volumes=[VOLUME | {"name": "bes-cache"}]), ["spec.engine.pod.volumes[0].name"]),
    "mount-unknown": (
        pod(volumes=[VOLUME], volumeMounts=[{"name": "other", "mountPath": "/data"}]),
        ["spec.engine.pod.volumeMounts[0].name"],
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
