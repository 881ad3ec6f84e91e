import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_memory_cluster import InMemoryCluster

from bes_operator.compare import must_apply
from bes_operator.manifest import FIELD_MANAGER, Apply, Manifest

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "n", "labels": {"x": "y"}, "ownerReferences": [{"uid": "u", "name": "s"}]},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"x": "y"}},
        "template": {
            "spec": {
                "enableServiceLinks": False,
                "containers": [
                    {
                        "name": "main",
                        "image": "i",
                        "args": ["--a", "1"],
                        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                        "env": [{"name": "A", "value": "1"}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1Gi", "nvidia.com/gpu": 1}},
                        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}],
                    }
                ],
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }
        },
    },
}


def applied(intent: Manifest = DEPLOYMENT) -> dict[str, Any]:
    cluster = InMemoryCluster()
    return dict(asyncio.run(cluster.apply(Apply(intent))))


def as_the_server_keeps_it(live: dict[str, Any]) -> dict[str, Any]:
    """Defaults filled in, quantities in their own form, zero values left out."""
    live["spec"]["progressDeadlineSeconds"] = 600
    pod = live["spec"]["template"]["spec"]
    pod["restartPolicy"] = "Always"
    container = pod["containers"][0]
    container["resources"]["limits"] |= {"cpu": "1", "memory": "1024Mi", "nvidia.com/gpu": "1"}
    container["imagePullPolicy"] = "IfNotPresent"
    container["env"].insert(0, {"name": "INJECTED", "value": "x"})
    del container["volumeMounts"][0]["readOnly"]
    pod["tolerations"][0]["effect"] = "NoExecute"
    return live


def test_what_was_just_applied_needs_no_second_time() -> None:
    assert not must_apply(DEPLOYMENT, applied(), FIELD_MANAGER)


def test_defaults_other_forms_of_quantities_and_other_peoples_items_are_no_difference() -> None:
    assert not must_apply(DEPLOYMENT, as_the_server_keeps_it(applied()), FIELD_MANAGER)


def test_what_is_not_there_is_applied() -> None:
    assert must_apply(DEPLOYMENT, None, FIELD_MANAGER)


def _container(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]["containers"][0]
    return found


EDITS = {
    "replicas": lambda live: live["spec"].update(replicas=3),
    "an image": lambda live: _container(live).update(image="other"),
    "an argument": lambda live: _container(live).update(args=["--a", "2"]),
    "an argument more": lambda live: _container(live).update(args=["--a", "1", "--b"]),
    "no arguments": lambda live: _container(live).pop("args"),
    "a variable": lambda live: _container(live)["env"][0].update(value="2"),
    "no variables": lambda live: _container(live).pop("env"),
    "a port": lambda live: _container(live)["ports"][0].update(containerPort=1),
    "less memory": lambda live: _container(live)["resources"]["limits"].update(memory="1023Mi"),
    "no GPU": lambda live: _container(live)["resources"]["limits"].pop("nvidia.com/gpu"),
    "service links": lambda live: live["spec"]["template"]["spec"].update(enableServiceLinks=True),
    "another volume": lambda live: live["spec"]["template"]["spec"].update(
        volumes=[{"name": "v", "hostPath": {"path": "/"}}]
    ),
    "a label": lambda live: live["metadata"]["labels"].update(x="z"),
    "no labels": lambda live: live["metadata"].pop("labels"),
    "another owner": lambda live: live["metadata"]["ownerReferences"][0].update(name="t"),
    "a toleration more": lambda live: live["spec"]["template"]["spec"]["tolerations"].append({"key": "q"}),
    "true for one": lambda live: live["spec"].update(replicas=True),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_hand_edit_is_seen(edit: str) -> None:
    live = applied()
    EDITS[edit](live)
    assert must_apply(DEPLOYMENT, live, FIELD_MANAGER)


def test_a_field_that_the_intent_no_longer_names_is_taken_away() -> None:
    intent = copy.deepcopy(DEPLOYMENT)
    del _container(intent)["env"]
    assert must_apply(intent, applied(), FIELD_MANAGER)


def test_an_item_that_the_intent_no_longer_names_is_taken_away() -> None:
    intent = copy.deepcopy(DEPLOYMENT)
    intent["spec"]["template"]["spec"]["volumes"].append({"name": "w", "emptyDir": {}})
    assert must_apply(DEPLOYMENT, applied(intent), FIELD_MANAGER)


def test_an_owner_who_lost_a_field_takes_it_back() -> None:
    live = applied()
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    assert must_apply(DEPLOYMENT, live, FIELD_MANAGER)


def test_what_nobody_applied_is_applied_even_if_it_looks_the_same() -> None:
    live = applied()
    del live["metadata"]["managedFields"]
    assert must_apply(DEPLOYMENT, live, FIELD_MANAGER)


def test_a_list_that_the_server_owns_as_a_whole_counts_as_owned_with_its_items() -> None:
    live = applied()
    owned = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    owned["f:selector"] = {}  # atomic
    assert not must_apply(DEPLOYMENT, live, FIELD_MANAGER)


def test_status_and_the_fields_of_other_managers_do_not_matter() -> None:
    live = applied()
    live["metadata"]["managedFields"].append(
        {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {"f:x": {}}}}
    )
    live["metadata"]["managedFields"].append(
        {"manager": "kcm", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {"f:revision": {}}}}}
    )
    assert not must_apply(DEPLOYMENT, live, FIELD_MANAGER)


names = st.sampled_from(["a", "b", "containers", "env", "ports", "volumes"])
scalars = st.booleans() | st.integers(0, 3) | st.sampled_from(["", "1", "x", "1000m"])
quantities = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from([1, "1", "1000m", "2Gi"]), min_size=1)
item = st.fixed_dictionaries({"name": st.sampled_from("pqr")}, optional={"value": scalars, "limits": quantities})
items = st.lists(item, min_size=1, max_size=3, unique_by=lambda one: one["name"])
trees = st.recursive(
    scalars | items,
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=4) | st.lists(inner, min_size=1, max_size=3),
    max_leaves=12,
)
intents = st.dictionaries(names, trees, min_size=1, max_size=4).map(
    lambda spec: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "spec": spec}
)


@given(intents)
def test_applying_any_intent_makes_it_need_no_second_time(intent: Manifest) -> None:
    live = applied(intent)
    assert not must_apply(intent, live, FIELD_MANAGER)


@given(intents, intents)
def test_an_intent_that_replaces_another_is_applied_until_nothing_of_the_other_is_left(
    old: Manifest, new: Manifest
) -> None:
    async def test() -> None:
        cluster = InMemoryCluster()
        before = await cluster.apply(Apply(old))
        after = await cluster.apply(Apply(new))
        changed = before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]
        assert must_apply(new, before, FIELD_MANAGER) or not changed

    asyncio.run(test())
