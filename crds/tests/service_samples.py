"""A small valid service as plain data, ways to change it, and random valid services."""

import copy
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from bes_api.quantities import format_duration
from bes_api.service import BestEffortService

Data = dict[str, Any]

_SAMPLE: Data = {
    "apiVersion": "besteffort.dev/v1alpha1",
    "kind": "BestEffortService",
    "metadata": {"name": "opt"},
    "spec": {
        "engine": {"type": "VLLM"},
        "acceleratorGroups": [{"name": "a", "class": "A100-80GB", "gpus": 2}],
        "models": [
            {
                "name": "small",
                "modelID": "facebook/opt-125m",
                "replicas": 2,
                "contextTokens": 2048,
                "accelerator": {"group": "a", "memoryPercent": 10},
            },
            {
                "name": "large",
                "modelID": "facebook/opt-6.7b",
                "replicaRange": {"min": 1, "max": 3},
                "contextTokens": 2048,
                "profile": {"preset": "opt-6.7b"},
            },
        ],
        "defaultTask": "chat",
        "tasks": [
            {
                "name": "chat",
                "deadline": {"soft": {"fullUntil": "600ms", "zeroFrom": "2s"}},
                "quality": {"small": "0.4", "large": "0.7"},
                "tokens": {"prompt": 128, "output": 16},
            },
            {
                "name": "search",
                "deadline": {"hard": {"within": "600ms"}},
                "quality": {"large": "0.7", "small": "0.5"},
                "tokens": {"prompt": 64, "output": 8},
            },
        ],
    },
}


def sample() -> Data:
    """A fresh copy of a service that breaks no rule."""
    return copy.deepcopy(_SAMPLE)


def changed(*path: str | int, to: object) -> Data:
    """The sample with the value at ``path`` replaced, added, or (``to=None``) removed."""
    data = sample()
    node: Any = data
    for step in path[:-1]:
        node = node[step]
    if to is None:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return data


def parsed(data: Data) -> BestEffortService:
    """The service; raises pydantic's error where the form is wrong."""
    return BestEffortService.model_validate(data, by_alias=True, by_name=False)


def _ms(count: int) -> str:
    return format_duration(timedelta(milliseconds=count))


def _pods() -> st.SearchStrategy[Data]:
    """Shapes of pods, each with some of Kubernetes' own fields."""
    reference = {"name": "settings", "key": "a.b", "optional": True}
    variables: list[Data] = [{"value": "x"}, {"valueFrom": {"secretKeyRef": reference}}, {}]
    volumes: list[Data] = [
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 0o400}], "defaultMode": 0o444}},
        {"secret": {"secretName": "s", "optional": False}},
        {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
        {"hostPath": {"path": "/opt/models", "type": "Directory"}},
        {"nfs": {"server": "files", "path": "/x"}},
        {"csi": {"driver": "a.b", "volumeAttributes": {"k": "v"}, "nodePublishSecretRef": {"name": "n"}}},
    ]
    members: Data = {
        "labels": st.just({"team": "a", "example.com/Cost-Centre": ""}),
        "annotations": st.just({"example.com/note": "anything: at all\n"}),
        "nodeSelector": st.just({"kubernetes.io/arch": "amd64"}),
        "tolerations": st.just([{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]),
        "affinity": st.just({"nodeAffinity": {"preferred": [{"weight": 1, "preference": {"x": [True, None, "y"]}}]}}),
        "priorityClassName": st.just("high"),
        "runtimeClassName": st.just("nvidia"),
        "schedulerName": st.just("other"),
        "env": st.lists(st.sampled_from(variables), max_size=3).map(
            lambda chosen: [{"name": f"V_{i}"} | each for i, each in enumerate(chosen)]
        ),
        "volumes": st.lists(st.sampled_from(volumes), max_size=4).map(
            lambda chosen: [{"name": f"v-{i}"} | each for i, each in enumerate(chosen)]
        ),
    }
    return st.fixed_dictionaries({}, optional=members).map(_mounted)


def _mounted(pod: Data) -> Data:
    mounts = [
        {"name": each["name"], "mountPath": f"/{each['name']}", "readOnly": True} for each in pod.get("volumes", [])
    ]
    return pod | ({"volumeMounts": mounts} if mounts else {})


def _engines() -> st.SearchStrategy[Data]:
    """Engines that state a type, and some of everything else."""
    members: Data = {
        "image": st.sampled_from(["vllm/vllm-openai:v0.11.0", "registry:5000/a/b@sha256:" + "0" * 64]),
        "imagePullPolicy": st.sampled_from(["Always", "IfNotPresent", "Never"]),
        "imagePullSecrets": st.just([{"name": "pull"}]),
        "args": st.just(["--tensor-parallel-size", "2", ""]),
        "modelCache": st.sampled_from([{"persistentVolumeClaim": {"claimName": "hf"}}, {"emptyDir": {}}]),
        "hubTokenSecretRef": st.just({"name": "hf", "key": "token"}),
        "pod": _pods(),
    }
    kind = st.sampled_from(["VLLM", "TextGenerationInference", "Emulated"])
    return st.fixed_dictionaries({"type": kind}, optional=members)


def _resources() -> st.SearchStrategy[Data]:
    claims = {"resources": {"claims": [{"name": "gpu"}]}, "resourceClaims": [{"name": "gpu", "resourceClaimName": "g"}]}
    limits = {"limits": {"nvidia.com/gpu": 1, "memory": "16Gi"}, "requests": {"memory": "1024Mi", "cpu": "500m"}}
    return st.sampled_from([{}, {"resources": limits}, claims])


def _policies(models: list[str]) -> st.SearchStrategy[Data]:
    fixed = {"static": {"model": models[0]}, "type": "Static"}
    members: Data = {
        "fallback": st.sampled_from([{"type": "Priced"}, {}, fixed]),
        "source": st.sampled_from(
            [
                {"training": {"learner": "DQN", "decisions": 5000, "seeds": 1, "revision": 2}},
                {"training": {}},
                {"imported": {"configMapName": "policy", "digest": "sha256:" + "0" * 64}},
            ]
        ),
        "promotion": st.fixed_dictionaries(
            {},
            optional={"mode": st.just("Manual"), "margin": st.just("0.02"), "shadow": st.integers(0, 10**6).map(_ms)},
        ),
        "historyLimit": st.integers(0, 32),
        "pinnedDigest": st.just("sha256:" + "f" * 64),
    }
    kind = st.sampled_from([{}, {"type": "Learned"}, {"type": "Priced"}, fixed])
    return st.builds(lambda a, b: a | b, kind, st.fixed_dictionaries({}, optional=members))


def _loads() -> st.SearchStrategy[Data]:
    prometheus = {
        "url": "https://prometheus.monitoring:9090/x",
        "scrapeInterval": "15s",
        "matchers": {"namespace": "a"},
        "joinLabel": "pod",
        "caConfigMapRef": {"name": "ca", "key": "ca.crt"},
        "authorizationSecretRef": {"name": "token", "key": "t"},
    }
    return st.sampled_from([{"direct": {"interval": "1s"}}, {"prometheus": prometheus, "staleAfter": "1m"}])


def _model(index: int, groups: list[Data]) -> st.SearchStrategy[Data]:
    size = st.sampled_from(["125m", "350m", "1.3b", "2.7b", "6.7b"])
    replicas = st.one_of(
        st.integers(1, 3).map(lambda n: {"replicas": n}),
        st.tuples(st.integers(1, 3), st.integers(0, 3)).map(
            lambda pair: {"replicaRange": {"min": pair[0], "max": pair[0] + pair[1]}}
        ),
    )
    place = st.sampled_from([None, *(group["name"] for group in groups)]).map(
        lambda name: {} if name is None else {"accelerator": {"group": name, "memoryPercent": 1}}
    )
    engine = st.fixed_dictionaries({}, optional={"engine": _engines(), "revision": st.just("refs/pr/1")})
    return st.tuples(size, replicas, place, engine, st.integers(200, 2048), _resources()).map(
        lambda parts: {
            "name": f"model-{index}",
            "modelID": f"facebook/opt-{parts[0]}",
            "contextTokens": parts[4],
            **parts[1],
            **parts[2],
            **parts[3],
            **parts[5],
        }
    )


def _task(index: int, models: list[str]) -> st.SearchStrategy[Data]:
    instant = st.integers(1, 10_000)
    deadline = st.one_of(
        instant.map(lambda n: {"hard": {"within": _ms(n)}}),
        st.tuples(instant, instant).map(
            lambda pair: {"soft": {"fullUntil": _ms(pair[0]), "zeroFrom": _ms(pair[0] + pair[1])}}
        ),
    )
    quality = st.dictionaries(
        st.sampled_from(models), st.integers(1, 1000).map(lambda n: f"{n / 1000:.3f}"), min_size=1
    )
    tokens = st.tuples(st.integers(1, 150), st.integers(1, 50)).map(lambda t: {"prompt": t[0], "output": t[1]})
    return st.builds(
        lambda d, q, t: {"name": f"task-{index}", "deadline": d, "quality": q, "tokens": t}, deadline, quality, tokens
    )


@st.composite
def services(draw: st.DrawFn) -> Data:
    """Random services that break no rule."""
    groups: list[Data] = [
        {
            "name": f"group-{i}",
            "class": "A100-80GB",
            "gpus": draw(st.integers(1, 5)),
            "sharing": draw(st.sampled_from(["TimeSlicing", "MPS"])),
            "interferencePercent": draw(st.integers(0, 100)),
        }
        for i in range(draw(st.integers(0, 3)))
    ]
    models = [draw(_model(i, groups)) for i in range(draw(st.integers(1, 6)))]
    names = [model["name"] for model in models]
    tasks = [draw(_task(i, names)) for i in range(draw(st.integers(1, 5)))]
    data = sample()
    data["spec"] |= {"acceleratorGroups": groups, "models": models, "tasks": tasks}
    data["spec"]["defaultTask"] = draw(st.sampled_from([task["name"] for task in tasks]))
    data["spec"]["router"] = {"replicas": draw(st.integers(1, 4)), "maxInFlight": draw(st.integers(1, 1000))}
    if draw(st.booleans()):
        allowed = {"pinModel": draw(st.booleans()), "deadline": draw(st.sampled_from(["TightenOnly", "Any"]))}
        data["spec"]["router"]["clients"] = allowed
    for field, values in (("load", _loads()), ("policy", _policies(names)), ("engine", _engines())):
        if draw(st.booleans()):
            data["spec"][field] = draw(values)
    data["spec"]["router"] |= draw(st.fixed_dictionaries({}, optional={"pod": _pods()}))
    return data
