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
    engine = st.sampled_from([{}, {"engine": {"type": "VLLM"}}, {"engine": {"type": "Emulated"}}])
    return st.tuples(size, replicas, place, engine, st.integers(200, 2048)).map(
        lambda parts: {
            "name": f"model-{index}",
            "modelID": f"facebook/opt-{parts[0]}",
            "contextTokens": parts[4],
            **parts[1],
            **parts[2],
            **parts[3],
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
    return data
