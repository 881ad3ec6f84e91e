"""What the campaign of the operator's faults calls the same, and what it finds wrong."""

import copy
from typing import Any

from bes_lab.cluster.faults.asking import canonical, conditions, orphans
from bes_operator.manifest import Key

KEY = Key("ConfigMap", "faulty-1", "opt-router")
OBJECT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": "opt-router",
        "namespace": "faulty-1",
        "uid": "u1",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"a": "b"},
        "ownerReferences": [{"kind": "BestEffortService", "name": "opt", "uid": "s1", "controller": True}],
        "managedFields": [{"manager": "best-effort-serving"}, {"manager": "kube-controller-manager"}],
    },
    "data": {"router.json": "in faulty-1 since 2026-01-01T00:00:00Z"},
}


def said_of(namespace: str, **changed: Any) -> str:
    found = copy.deepcopy(OBJECT) | changed
    return canonical(namespace, {Key("ConfigMap", namespace, "opt-router"): found})["ConfigMap/opt-router"]


def test_another_time_place_and_uid_are_the_same() -> None:
    metadata = OBJECT["metadata"] | {"uid": "u2", "resourceVersion": "9", "namespace": "faulty-2"}
    owners = [OBJECT["metadata"]["ownerReferences"][0] | {"uid": "s2"}]
    data = {"router.json": "in faulty-2 since 2027-01-01T00:00:00Z"}
    assert said_of("faulty-2", metadata=metadata | {"ownerReferences": owners}, data=data) == said_of("faulty-1")


def test_other_content_labels_owners_and_managers_are_not() -> None:
    before, metadata = said_of("faulty-1"), OBJECT["metadata"]
    assert said_of("faulty-1", data={"router.json": "else"}) != before
    others: tuple[dict[str, Any], ...] = (
        {"labels": {"a": "c"}},
        {"ownerReferences": []},
        {"managedFields": [{"manager": "kubectl"}]},
    )
    for other in others:
        assert said_of("faulty-1", metadata=metadata | other) != before


def test_an_object_of_another_services_uid_or_of_none_is_an_orphan() -> None:
    assert orphans("s1", {KEY: OBJECT}) == []
    assert orphans("s2", {KEY: OBJECT}) == [str(KEY)]
    assert orphans("", {KEY: OBJECT | {"metadata": {"name": "opt-router"}}}) == [str(KEY)]


def test_conditions_of_an_older_generation_say_nothing() -> None:
    told = {"type": "Ready", "status": "False", "reason": "Waiting"}
    service = {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": [told]}}
    assert conditions(service) == {"Ready": "False Waiting"}
    assert conditions(service | {"metadata": {"generation": 3}}) == {}
    assert conditions({}) == {}
