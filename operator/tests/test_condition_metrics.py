"""Conditions as a metric: what is stored is what is said, and an unreadable status says nothing."""

from prometheus_client.parser import text_string_to_metric_families

from bes_operator.manifest import Manifest
from bes_operator.metrics import Metrics

NAME = "bes_operator_condition"


def service(name: str, *conditions: dict[str, object]) -> Manifest:
    return {
        "apiVersion": "besteffort.dev/v1alpha1",
        "kind": "BestEffortService",
        "metadata": {"name": name, "namespace": "team-a", "uid": name},
        "status": {"observedGeneration": 1, "conditions": list(conditions)},
    }


def condition(kind: str, status: str) -> dict[str, object]:
    return {
        "type": kind,
        "status": status,
        "reason": "Waiting",
        "message": "",
        "lastTransitionTime": "2026-01-31T00:00:00Z",
    }


def said(stored: list[Manifest]) -> set[tuple[str, str, str]]:
    metrics = Metrics()
    metrics.tell_conditions(lambda: stored)
    families = text_string_to_metric_families(metrics.text().decode())
    samples = [sample for family in families if family.name == NAME for sample in family.samples]
    assert all(sample.value == 1 and sample.labels["service_namespace"] == "team-a" for sample in samples)
    return {(sample.labels["service"], sample.labels["condition"], sample.labels["status"]) for sample in samples}


def test_every_condition_of_every_service_is_a_series() -> None:
    stored = [
        service("opt", condition("Ready", "True"), condition("Stalled", "False")),
        service("other", condition("Stalled", "True")),
    ]
    assert said(stored) == {("opt", "Ready", "True"), ("opt", "Stalled", "False"), ("other", "Stalled", "True")}


def test_services_are_asked_for_at_each_scrape() -> None:
    stored: list[Manifest] = []
    metrics = Metrics()
    metrics.tell_conditions(lambda: stored)
    assert 'service="opt"' not in metrics.text().decode()
    stored.append(service("opt", condition("Ready", "Unknown")))
    assert 'service="opt"' in metrics.text().decode()


def test_a_status_that_cannot_be_read_says_nothing_and_hinders_nothing() -> None:
    broken = {**service("opt"), "status": {"conditions": "none"}}
    assert said([broken, service("other", condition("Ready", "True"))]) == {("other", "Ready", "True")}


def test_the_operators_process_says_when_it_started() -> None:
    assert "process_start_time_seconds" in Metrics().text().decode()
