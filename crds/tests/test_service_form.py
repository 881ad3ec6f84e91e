"""The resource's form: no floats, nothing unknown, nothing that changes after reading."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from service_samples import Data, changed, parsed, sample, services

from bes_api.documents import write_service
from bes_api.origins import origin_of
from bes_api.router_config import Clients, clients_of
from bes_api.service import BestEffortService


def _schemas(node: object) -> Iterator[dict[str, object]]:
    if isinstance(node, dict):
        yield node
        for key, child in node.items():
            if key != "default" and "x-kubernetes-int-or-string" not in node:  # bounds stand beside its two types
                yield from _schemas(child)
    elif isinstance(node, list):
        for child in node:
            yield from _schemas(child)


def test_no_float_is_anywhere_in_the_schema() -> None:
    for mode in ("validation", "serialization"):
        schema = BestEffortService.model_json_schema(mode=mode)
        types = {str(node["type"]) for node in _schemas(schema) if isinstance(node.get("type"), str)}
        assert types == {"object", "array", "string", "integer", "boolean", "null"}


def test_lists_strings_and_maps_are_bounded_so_that_rules_can_be_priced() -> None:
    for node in _schemas(BestEffortService.model_json_schema()):
        if node.get("type") == "array":
            assert "maxItems" in node, node
        if node.get("type") == "string" and "const" not in node and "enum" not in node and node.get("title") != "Name":
            assert "maxLength" in node, node
        if node.get("type") == "integer" or "x-kubernetes-int-or-string" in node:
            assert {"minimum", "maximum"} <= set(node), node


def test_fields_are_written_in_camel_case_and_model_id_as_the_hub_says() -> None:
    properties = BestEffortService.model_json_schema()["$defs"]["Model"]["properties"]
    assert {"modelID", "replicaRange", "contextTokens", "maxBatchSize"} <= set(properties)


@pytest.mark.parametrize("field", ["status", "Spec", "api_version"])
def test_unknown_fields_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        parsed(changed(field, to={}))


def test_python_names_are_no_second_way_to_write_a_document() -> None:
    data = sample()
    data["spec"]["models"][0]["model_id"] = data["spec"]["models"][0].pop("modelID")
    with pytest.raises(ValidationError):
        parsed(data)


def test_null_means_absent_as_it_does_to_the_api_server() -> None:
    data = sample()
    data["spec"]["load"] = data["spec"]["router"] = data["spec"]["models"][0]["engine"] = None
    data["spec"]["tasks"][0]["deadline"]["measure"] = data["spec"]["tasks"][0]["quality"]["small"] = None
    written = sample()
    del written["spec"]["tasks"][0]["quality"]["small"]
    assert parsed(data) == parsed(written)


def test_words_that_a_deadline_does_not_know_are_refused() -> None:
    for path, value in (
        (("spec", "tasks", 0, "deadline", "onMiss"), "Retry"),
        (("spec", "tasks", 0, "deadline", "measure"), "LastToken"),
    ):
        with pytest.raises(ValidationError, match="Input should be"):
            parsed(changed(*path, to=value))


@pytest.mark.parametrize("value", ["4", 4.0, True])
def test_integers_are_integers_only(value: object) -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        parsed(changed("spec", "models", 0, "replicas", to=value))


def test_a_service_cannot_change_after_reading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parsed(sample()).spec.router.replicas = 2  # type: ignore[misc]  # what this test is about


def test_metadata_keeps_what_kubernetes_puts_there() -> None:
    data = changed("metadata", to={"name": "opt", "namespace": "x", "labels": {"a": "b"}})
    assert write_service(parsed(data))["metadata"] == data["metadata"]


def test_clients_may_tighten_a_deadline_and_pin_nothing_unless_the_resource_says_more() -> None:
    assert clients_of(parsed(sample())) == Clients(pin_model=False, deadline="TightenOnly")
    asked = changed("spec", "router", to={"clients": {"pinModel": True, "deadline": "Any"}})
    assert clients_of(parsed(asked)) == Clients(pin_model=True, deadline="Any")


@pytest.mark.parametrize("clients", [{"pinModel": "yes"}, {"pinModel": 1}, {"deadline": "Loosen"}, {"pin": True}])
def test_what_clients_may_do_is_said_in_known_words(clients: Data) -> None:
    with pytest.raises(ValidationError):
        parsed(changed("spec", "router", to={"clients": clients}))


@given(services())
@settings(deadline=None, max_examples=50)
def test_a_service_survives_being_written(data: Data) -> None:
    service = parsed(data)
    written = write_service(service)
    assert written == data  # decimals digit by digit, no default added
    assert parsed(written) == service


@pytest.mark.parametrize(
    "url",
    [
        "prometheus:9090",
        "ftp://prometheus:9090",
        "http://",
        "http://user:secret@prometheus:9090",
        "http://prometheus:99999",
        "http://prometheus:0",
        "http://prometheus:9090/?query=1",
        "http://prometheus:9090/#there",
        "http://prometheus:9090/a b",
        "http://prometheus:9090/\n",
        "http://\u0663:9090",
    ],
)
def test_a_prometheus_is_named_by_a_plain_url_and_no_message_repeats_a_password(url: str) -> None:
    with pytest.raises(ValidationError) as error:
        parsed(changed("spec", "load", to={"prometheus": {"url": url, "scrapeInterval": "15s"}}))
    (problem,) = error.value.errors()
    assert problem["loc"][-1] == "url"
    assert "write http(s)://HOST:PORT" in problem["msg"]
    assert "secret" not in problem["msg"]


def test_origins_are_compared_without_case_and_with_their_port() -> None:
    assert origin_of("http://Prometheus.Monitoring/path/") == "http://prometheus.monitoring:80"
    assert origin_of("https://[::1]") == "https://[::1]:443"
    assert origin_of("https://a-b.c:9090") == "https://a-b.c:9090"
