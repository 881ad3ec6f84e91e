"""Rights that the chart gives: what the operator's code asks for and no more, each where it is needed."""

from collections.abc import Iterable, Mapping, Sequence

import pytest
from helm_chart import DEFAULTS, EVERYTHING, NAMESPACE, NAMESPACED, Object, of_kind, one, render

from bes_operator.kinds import CHILD_KINDS, KINDS, SERVICE_KIND
from bes_operator.observed import OBSERVED_KINDS

Right = tuple[str, str, str]
"""Group, resource and verb."""
LOOK = {"get", "list", "watch"}
OWN = {"create", "patch", "delete"}


def rights(rules: Iterable[Object]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def of_kinds(kinds: Sequence[str], verbs: Iterable[str]) -> set[Right]:
    return {(KINDS[kind].group, KINDS[kind].plural, verb) for kind in kinds for verb in verbs}


NEEDED = {
    *of_kinds(OBSERVED_KINDS, LOOK),
    *of_kinds(CHILD_KINDS, OWN),
    *of_kinds(("Event",), {"create", "patch"}),  # applied, as in bes_operator.events
    (KINDS[SERVICE_KIND].group, f"{KINDS[SERVICE_KIND].plural}/status", "patch"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
}


def bound(objects: list[Object], account: str) -> dict[str, set[Right]]:
    """Rights of one of the chart's accounts by namespace; "" is the whole cluster."""
    found: dict[str, set[Right]] = {}
    for kind in ("Role", "ClusterRole"):
        for binding in of_kind(objects, f"{kind}Binding"):
            if [subject["name"] for subject in binding["subjects"]] == [account]:
                place = binding["metadata"].get("namespace", "")
                assert binding["roleRef"]["kind"] == kind
                (role,) = [
                    item
                    for item in of_kind(objects, kind)
                    if item["metadata"]["name"] == binding["roleRef"]["name"]
                    and item["metadata"].get("namespace", "") == place
                ]
                found[place] = found.get(place, set()) | rights(role["rules"])
    return found


LEADS = {("coordination.k8s.io", "leases", verb) for verb in ("create", "get", "update")}


def test_the_operator_may_do_what_its_code_does_and_nothing_else() -> None:
    assert bound(render(), "best-effort-serving") == {"": NEEDED, NAMESPACE: LEADS}


def test_in_a_namespaced_install_it_has_the_same_rights_in_each_namespace_and_none_over_the_cluster() -> None:
    objects = render(NAMESPACED)
    assert bound(objects, "best-effort-serving") == {"team-a": NEEDED, "team-b": NEEDED, NAMESPACE: LEADS}
    assert of_kind(objects, "ClusterRoleBinding") == []


def test_the_lease_that_it_may_change_is_the_one_of_its_settings_and_no_other() -> None:
    role = one(render(release="r"), "Role", "r-best-effort-serving-leader")
    changing = [rule for rule in role["rules"] if "update" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in changing] == [["r-best-effort-serving"]]
    settings = one(render(release="r"), "ConfigMap", "r-best-effort-serving")["data"]["settings.yaml"]
    assert "lease: r-best-effort-serving\n" in settings


@pytest.mark.parametrize("values", [DEFAULTS, EVERYTHING, NAMESPACED], ids=["defaults", "everything", "namespaced"])
def test_nobody_may_write_roles_escalate_impersonate_or_do_just_anything(values: Mapping[str, object]) -> None:
    objects = render(values)
    for role in [*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")]:
        for group, resource, verb in rights(role["rules"]):
            assert "*" not in (group, resource, verb)
            assert verb not in {"escalate", "impersonate"}
            assert not (resource in {"roles", "clusterroles"} and verb != "bind")
            assert not (resource == "pods" and verb not in LOOK)
            assert resource not in {"pods/exec", "nodes", "serviceaccounts/token"}


def test_it_may_hand_on_the_two_roles_of_routers_and_trainings_and_no_other() -> None:
    objects = render()
    (bind,) = [rule for role in of_kind(objects, "ClusterRole") for rule in role["rules"] if "bind" in rule["verbs"]]
    router, training = bind["resourceNames"]
    look_at_engines = {("discovery.k8s.io", "endpointslices", verb) for verb in LOOK}
    assert rights(one(objects, "ClusterRole", router)["rules"]) == look_at_engines
    assert rights(one(objects, "ClusterRole", training)["rules"]) == {("", "configmaps", "create")}


def test_the_operator_itself_holds_what_it_hands_on() -> None:
    """Kubernetes would let it bind without: but a role that grew beyond it would be a way around its own limits."""
    objects = render()
    handed_on = [
        one(objects, "ClusterRole", f"{NAMESPACE}-best-effort-serving-{name}") for name in ("router", "training")
    ]
    assert rights(rule for role in handed_on for rule in role["rules"]) <= NEEDED


def test_everybody_who_may_look_may_look_at_services_and_only_admins_may_write_them() -> None:
    for role in of_kind(render(), "ClusterRole"):
        into = {
            name.rpartition("-to-")[2]
            for name in role["metadata"]["labels"]
            if name.startswith("rbac.authorization.k8s.io/aggregate-to-")
        }
        if not into:
            continue
        verbs = {verb for _, _, verb in rights(role["rules"])}
        assert {group for group, _, _ in rights(role["rules"])} == {KINDS[SERVICE_KIND].group}
        assert into == ({"view", "edit", "admin"} if verbs <= LOOK else {"admin"})
        assert ("besteffort.dev", "besteffortservices/status", "patch") not in rights(role["rules"])


def test_nothing_is_given_where_somebody_else_gives_it() -> None:
    kinds = {item["kind"] for item in render({**EVERYTHING, "rbac": {"create": False}})}
    assert kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} == set()
    names = {item["metadata"]["name"] for item in of_kind(render({"rbac": {"aggregate": False}}), "ClusterRole")}
    assert not any(name.endswith(("-view", "-admin")) for name in names)


def test_the_charts_prometheus_sees_pods_and_only_where_services_live() -> None:
    pods = {("", "pods", verb) for verb in LOOK}
    assert bound(render(EVERYTHING), "best-effort-serving-prometheus") == {"": pods}
    places = bound(render(NAMESPACED), "best-effort-serving-prometheus")
    assert places == {"team-a": pods, "team-b": pods, NAMESPACE: pods}
