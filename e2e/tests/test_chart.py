"""What the Helm chart means: objects that a cluster takes, pods that may run anywhere, values that are understood."""

import itertools
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_chart import (
    CHART,
    DEFAULTS,
    EVERYTHING,
    KUBERNETES,
    NAMESPACE,
    NAMESPACED,
    ROOT,
    VALUE_SETS,
    Object,
    helm,
    of_kind,
    one,
    pods,
    refusal,
    render,
    template,
)

from bes_api.service.pod import written
from bes_operator.settings import OperatorSettings
from bes_operator.settings_sources import FILE_VARIABLE

DIGEST = "sha256:" + "ab" * 32
OF_PROMETHEUS_OPERATOR = "monitoring.coreos.com/v1"
WITHOUT_NAMESPACE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
ours = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())


def settings_of(objects: list[Object]) -> OperatorSettings:
    (container,) = one(objects, "Deployment", "best-effort-serving")["spec"]["template"]["spec"]["containers"]
    assert {"name": FILE_VARIABLE, "value": "/etc/best-effort/settings.yaml"} in container["env"]
    stored = one(objects, "ConfigMap", "best-effort-serving")["data"]["settings.yaml"]
    return OperatorSettings.model_validate(yaml.safe_load(stored))


@ours
@pytest.mark.parametrize("version", ["1.29", "newest"])
def test_every_object_has_the_form_that_the_oldest_and_the_newest_kubernetes_know(
    values: Mapping[str, Any], version: str
) -> None:
    version = kubernetes_validate.latest_version() if version == "newest" else version
    for item in render(values):
        if item["apiVersion"] != OF_PROMETHEUS_OPERATOR:
            kubernetes_validate.validate(item, version, strict=True)


@ours
def test_helm_finds_nothing_to_complain_about(values: Mapping[str, Any]) -> None:
    said = helm(
        "lint",
        str(CHART),
        "--strict",
        "--kube-version",
        KUBERNETES,
        "--values",
        "-",
        stdin=yaml.safe_dump(dict(values)),
    )
    assert said.returncode == 0, said.stdout + said.stderr


@ours
def test_no_object_is_there_twice_and_each_has_its_place_and_labels(values: Mapping[str, Any]) -> None:
    objects = render(values)
    keys = Counter((item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects)
    assert [key for key, count in keys.items() if count > 1] == []
    for item in objects:
        assert ("namespace" in item["metadata"]) == (item["kind"] not in WITHOUT_NAMESPACE), item["metadata"]["name"]
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@ours
def test_every_pod_may_run_where_only_restricted_pods_may(values: Mapping[str, Any]) -> None:
    for name, _, pod in pods(render(values)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert {next(iter(volume.keys() - {"name"})) for volume in pod.get("volumes", [])} <= {"configMap", "emptyDir"}
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name


@ours
def test_every_service_and_budget_selects_exactly_one_kind_of_pod(values: Mapping[str, Any]) -> None:
    objects = render(values)
    labels = {name: labels for name, labels, _ in pods(objects)}
    for item in [
        *of_kind(objects, "Service"),
        *of_kind(objects, "PodDisruptionBudget"),
        *of_kind(objects, "Deployment"),
    ]:
        selector = item["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        chosen = [name for name, own in labels.items() if selector.items() <= own.items()]
        assert chosen == [item["metadata"]["name"]], item["kind"]


@ours
def test_every_port_account_and_config_map_that_is_named_is_there(values: Mapping[str, Any]) -> None:
    objects = render(values)
    accounts = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    config_maps = {item["metadata"]["name"] for item in of_kind(objects, "ConfigMap")}
    ports: dict[str, set[str]] = {}
    for name, _, pod in pods(objects):
        named = {port["name"] for container in pod["containers"] for port in container.get("ports", [])}
        ports[name] = named
        assert pod.get("serviceAccountName", "default") in accounts | {"default"}
        assert {
            volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume
        } <= config_maps
        mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}
        for container, probe in itertools.product(pod["containers"], ("startup", "liveness", "readiness")):
            if f"{probe}Probe" in container:
                assert container[f"{probe}Probe"]["httpGet"]["port"] in named
    for service in of_kind(objects, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[service["metadata"]["name"]]
        assert all(port["protocol"] == "TCP" for port in service["spec"]["ports"])


def test_pods_that_ask_the_api_server_have_a_token_and_no_other_pod_has() -> None:
    tokens = {name: pod["automountServiceAccountToken"] for name, _, pod in pods(render(EVERYTHING))}
    assert tokens == {
        "best-effort-serving": True,
        "best-effort-serving-prometheus": True,
        "best-effort-serving-test": False,
    }


def test_the_operator_reads_the_settings_that_the_chart_writes() -> None:
    place = {
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "tolerationSeconds": 60}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "priorityClassName": "batch",
    }
    values = {
        "images": {"registry": "registry.test/best-effort", "router": {"tag": "7"}, "pullSecrets": ["mirror"]},
        "settings": {
            "max_trainings": 4,
            "leadership": {"duration_seconds": 30.0},
            "backoff": {"cap_seconds": 5},
            "training_pod": place,
        },
        "prometheusOrigins": ["http://elsewhere.test:9090"],
        "watchNamespaces": ["team-a"],
    }
    settings = settings_of(render(values))
    assert settings.namespace == NAMESPACE
    assert settings.watch_namespaces == ("team-a",)
    assert settings.images.router == "registry.test/best-effort/best-effort-serving-router:7"
    assert settings.images.pull_secrets == ("mirror",)
    assert settings.max_trainings == 4
    assert settings.backoff.cap_seconds == 5
    assert written(settings.training_pod) == place
    assert (settings.leadership.duration_seconds, settings.leadership.lease) == (30, "best-effort-serving")
    assert settings.prometheus_origins == ("http://elsewhere.test:9090",)
    assert settings.default_prometheus_url is None


def test_roles_that_the_operator_hands_on_are_roles_of_the_chart() -> None:
    objects = render()
    settings = settings_of(objects)
    assert {settings.router_role, settings.training_role} <= {
        item["metadata"]["name"] for item in of_kind(objects, "ClusterRole")
    }


def test_the_operator_starts_again_when_its_settings_change() -> None:
    def checksum(values: Mapping[str, Any]) -> str:
        template = one(render(values), "Deployment", "best-effort-serving")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum(DEFAULTS) != checksum({"settings": {"workers": 2}})
    assert checksum(DEFAULTS) == checksum({"operator": {"replicas": 3}})


def test_the_charts_own_prometheus_becomes_the_default_and_a_named_one_wins() -> None:
    own = settings_of(render({"prometheus": {"enabled": True, "scrapeSeconds": 3}}))
    assert own.default_prometheus_url == f"http://best-effort-serving-prometheus.{NAMESPACE}.svc:9090"
    assert own.default_prometheus_scrape_seconds == 3
    named = {"prometheus": {"enabled": True}, "defaultPrometheusUrl": "http://prometheus.test:9090"}
    assert settings_of(render(named)).default_prometheus_url == "http://prometheus.test:9090"
    assert settings_of(render(named)).default_prometheus_scrape_seconds == 15


def test_a_digest_wins_over_a_tag_and_pull_secrets_reach_every_pod() -> None:
    values = {
        **EVERYTHING,
        "images": {"operator": {"repository": "op", "tag": "7", "digest": DIGEST}, "pullSecrets": ["mirror"]},
    }
    for name, _, pod in pods(render(values)):
        assert pod["imagePullSecrets"] == [{"name": "mirror"}], name
        if name in {"best-effort-serving", "best-effort-serving-test"}:
            assert [container["image"] for container in pod["containers"]] == [f"op@{DIGEST}"]


def test_images_are_of_this_release_unless_told_otherwise() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
    assert settings_of(render()).images.engine == f"best-effort-serving-engine:{version}"


def test_one_replica_has_no_disruption_budget_that_would_hold_up_a_drain() -> None:
    assert len(of_kind(render(), "PodDisruptionBudget")) == 1
    assert of_kind(render({"operator": {"replicas": 1}}), "PodDisruptionBudget") == []


def test_the_definition_is_the_one_in_crds_and_outlives_the_release_unless_told_otherwise() -> None:
    source = yaml.safe_load((ROOT / "crds" / "besteffortservices.yaml").read_text())
    (kept,) = of_kind(render(), "CustomResourceDefinition")
    assert kept["spec"] == source["spec"]
    assert kept["metadata"]["name"] == source["metadata"]["name"]
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (let_go,) = of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "helm.sh/resource-policy" not in let_go["metadata"].get("annotations", {})
    assert of_kind(render({"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_the_definition_keeps_its_large_integers() -> None:
    said = template(CHART, "r", "--show-only", "templates/crd.yaml").stdout
    assert "CustomResourceDefinition" in said
    assert re.search(r"\de[+]\d", said) is None


def test_two_releases_in_two_namespaces_share_no_object() -> None:
    def keys(namespace: str) -> set[tuple[str, str | None, str]]:
        values = {"watchNamespaces": [namespace], "crds": {"enabled": False}, "prometheus": {"enabled": True}}
        return {
            (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
            for item in render(values, namespace=namespace)
        }

    assert keys("team-a") & keys("team-b") == set()


@pytest.mark.parametrize("release", ["a", "best-effort-serving", "x" * 53])
def test_names_stay_short_enough_for_any_release(release: str) -> None:
    for item in render(NAMESPACED, release=release):
        if item["kind"] not in {"CustomResourceDefinition", "ClusterRole"}:
            assert len(item["metadata"]["name"]) <= 63
        assert all(len(str(value)) <= 63 for value in item["metadata"]["labels"].values())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 3}, "replicas"),
        ({"operator": {"replicas": 0}}, "/operator/replicas"),
        ({"operator": {"replicas": "two"}}, "/operator/replicas"),
        ({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy"),
        ({"images": {"router": {"digest": "sha256:short"}}}, "/images/router/digest"),
        ({"images": {"registry": "registry.test/"}}, "/images/registry"),
        ({"watchNamespaces": "team-a"}, "/watchNamespaces"),
        ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0"),
        ({"defaultPrometheusUrl": "prometheus:9090"}, "/defaultPrometheusUrl"),
        ({"prometheusOrigins": ["http://prometheus.test:9090/path"]}, "/prometheusOrigins/0"),
        ({"prometheus": {"scrapeSeconds": 0}}, "/prometheus/scrapeSeconds"),
        ({"operator": {"resources": {"limits": {"memory": "lots"}}}}, "/operator/resources/limits/memory"),
        ({"settings": {"max_trainings": 0}}, "/settings/max_trainings"),
        ({"settings": {"training_pod": {"nodeSelector": ["pool"]}}}, "/settings/training_pod/nodeSelector"),
        ({"settings": {"training_pod": {"tolerations": [{"effect": "Never"}]}}}, "/tolerations/0/effect"),
        ({"settings": {"training_pod": {"env": []}}}, "env"),
        ({"settings": {"leadership": {"lease": "mine"}}}, "lease"),
        ({"settings": {"namespace": "elsewhere"}}, "namespace"),
        ({"settings": {"typo": 1}}, "typo"),
    ],
    ids=lambda case: str(case)[:60],
)
def test_a_wrong_value_is_refused_by_its_name(values: Mapping[str, Any], named: str) -> None:
    said = refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert named in said


def test_values_that_fit_no_schema_are_refused_with_the_mend() -> None:
    assert "serviceAccount.name is needed" in refusal({"serviceAccount": {"create": False}})
    assert "set one" in refusal({"prometheus": {"enabled": True, "image": {"tag": ""}}})


def test_policies_limit_what_comes_in_and_nothing_else_and_are_off_by_default() -> None:
    assert of_kind(render(), "NetworkPolicy") == []
    policies = of_kind(render(NAMESPACED), "NetworkPolicy")
    assert {item["metadata"]["namespace"] for item in policies} == {NAMESPACE, "team-a", "team-b"}
    assert all(item["spec"]["policyTypes"] == ["Ingress"] and "egress" not in item["spec"] for item in policies)


def test_only_routers_and_scrapers_reach_engines_and_only_operator_and_scrapers_a_routers_admin_port() -> None:
    objects = render(NAMESPACED)
    engines = one(
        [item for item in objects if item["metadata"].get("namespace") == "team-a"],
        "NetworkPolicy",
        "best-effort-serving-engines",
    )
    (rule,) = engines["spec"]["ingress"]
    routers, prometheus = rule["from"]
    assert routers == {"podSelector": {"matchLabels": {"besteffort.dev/component": "router"}}}
    labels = {name: labels for name, labels, _ in pods(objects)}
    assert prometheus["podSelector"]["matchLabels"].items() <= labels["best-effort-serving-prometheus"].items()
    assert prometheus["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    router = one(
        [item for item in objects if item["metadata"].get("namespace") == "team-a"],
        "NetworkPolicy",
        "best-effort-serving-routers",
    )
    requests, admin = router["spec"]["ingress"]
    assert "from" not in requests
    assert admin["ports"] == [{"port": "admin", "protocol": "TCP"}]
    assert any(
        peer["podSelector"]["matchLabels"].items() <= labels["best-effort-serving"].items() for peer in admin["from"]
    )


def test_the_notes_name_the_next_two_commands(tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / "chart")
    (chart / "templates" / "NOTES.txt").rename(chart / "notes")  # helm shows notes only where it installs
    (chart / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "notes") . | quote }}')
    values = "{watchNamespaces: [team-a], crds: {keep: false}}"
    said = template(chart, "r", "--values", "-", "--show-only", "templates/notes.yaml", stdin=values)
    notes = yaml.safe_load(said.stdout)["notes"]
    example = re.search(r"kubectl apply --namespace team-a --filename (\S+)", notes)
    assert example is not None
    assert (ROOT / example[1]).is_file()
    assert "kubectl wait --namespace team-a" in notes
    assert "WARNING: crds.keep is false" in notes
