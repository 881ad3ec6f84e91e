from dataclasses import replace
from typing import Any

import pytest
from desired_samples import EMULATED, EVERYTHING, SETTINGS, changed, request_for, service_in

from bes_api.router_config import DirectLoad, PrometheusLoad, RouterConfig
from bes_api.service_status import ConditionType, Reason
from bes_operator.desired.load import load_part
from bes_operator.desired.objects import desired_objects
from bes_operator.desired.request import Desired
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.settings import OperatorSettings


def asked(**prometheus: Any) -> Desired:
    def ask(spec: dict[str, Any]) -> None:
        spec["load"]["prometheus"] |= prometheus

    return request_for(EVERYTHING, service=changed(service_in(EVERYTHING), ask))


def settings(**changes: Any) -> OperatorSettings:
    return OperatorSettings.model_validate(SETTINGS.model_dump() | changes)


def configuration(request: Desired) -> RouterConfig:
    name = Key("ConfigMap", "apps", f"{request.service.name}-router")
    manifest = next(each for each in desired_objects(request).manifests if key_of(each) == name)
    return RouterConfig.of_files({"router.json": manifest["data"]["router.json"].encode()}, "golden")


def router_pod(request: Desired) -> Manifest:
    name = Key("Deployment", "apps", f"{request.service.name}-router")
    found = next(each for each in desired_objects(request).manifests if key_of(each) == name)
    return dict(found["spec"]["template"]["spec"])


def test_an_allowed_prometheus_is_asked_with_all_that_the_resource_says() -> None:
    load = configuration(request_for(EVERYTHING)).load
    assert isinstance(load, PrometheusLoad)
    assert (load.url, load.join_label, load.matchers) == (
        "https://prometheus.monitoring:9090",
        "pod",
        {"cluster": "one"},
    )
    assert (load.scrape_interval_seconds, load.stale_after_seconds) == (15.0, 45.0)
    mounted = {mount["mountPath"] for mount in router_pod(request_for(EVERYTHING))["containers"][0]["volumeMounts"]}
    assert {str(load.ca_file.parent), str(load.authorization_file.parent)} <= mounted  # type: ignore[union-attr]


def test_a_prometheus_outside_the_allow_list_is_not_asked_by_half() -> None:
    request = asked(url="https://elsewhere.example:9090")
    assert isinstance(configuration(request).load, DirectLoad)
    assert not [volume for volume in router_pod(request)["volumes"] if "prometheus" in volume["name"]]
    (complaint,) = desired_objects(request).complaints
    assert (complaint.condition, complaint.reason) == (ConditionType.LOAD_FIGURES, Reason.ORIGIN_NOT_ALLOWED)
    assert "https://elsewhere.example:9090" in complaint.message
    assert "prometheus_origins" in complaint.message


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (Key("ConfigMap", "apps", "prometheus-ca"), Reason.CONFIG_MAP_MISSING),
        (Key("Secret", "apps", "prometheus-token"), Reason.SECRET_MISSING),
    ],
)
def test_a_missing_certificate_or_token_means_the_engines_are_asked_until_it_is_there(
    missing: Key, reason: Reason
) -> None:
    part = load_part(replace(request_for(EVERYTHING), missing=frozenset({missing})))
    assert isinstance(part.source, DirectLoad)
    assert [(each.condition, each.reason) for each in part.complaints] == [(ConditionType.LOAD_FIGURES, reason)]
    assert missing.name in part.complaints[0].message


def test_without_a_word_about_load_the_operators_prometheus_is_asked() -> None:
    own = settings(default_prometheus_url="http://prometheus.monitoring:9090", default_prometheus_scrape_seconds=5.0)
    load = configuration(request_for(EMULATED, settings=own)).load
    assert isinstance(load, PrometheusLoad)
    assert (load.url, load.scrape_interval_seconds, load.join_label) == (
        "http://prometheus.monitoring:9090",
        5.0,
        "pod",
    )


def test_without_a_prometheus_anywhere_routers_ask_the_engines() -> None:
    load = configuration(request_for(EMULATED)).load
    assert load == DirectLoad(interval_seconds=1.0)


def test_a_stated_interval_and_age_reach_the_router() -> None:
    def ask(spec: dict[str, Any]) -> None:
        spec["load"] = {"direct": {"interval": "250ms"}, "staleAfter": "2s"}

    load = configuration(request_for(EMULATED, service=changed(service_in(EMULATED), ask))).load
    assert load == DirectLoad(interval_seconds=0.25, stale_after_seconds=2.0)
