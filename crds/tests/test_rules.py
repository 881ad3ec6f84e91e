"""Each rule of the table is broken by its own example, and by nothing else."""

import pytest
from broken_services import (
    BROKEN,
    DIGEST,
    GROUP,
    MODEL,
    PROMETHEUS,
    SECURED,
    SPEC,
    TASK,
    VOLUME,
    other_class_with_its_own_profile,
    pod,
)
from hypothesis import given, settings
from service_samples import Data, changed, parsed, sample, services

from bes_api.location import field_path
from bes_api.rules import RULES, violations


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert set(BROKEN) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule_id", BROKEN)
def test_the_example_breaks_its_rule_and_no_other(rule_id: str) -> None:
    data, locations = BROKEN[rule_id]
    found = violations(parsed(data))
    assert [(violation.rule.id, field_path(violation.location)) for violation in found] == [
        (rule_id, location) for location in locations
    ]


def test_ids_and_messages_are_unique_and_messages_say_the_mend() -> None:
    assert len({rule.id for rule in RULES}) == len({rule.message for rule in RULES}) == len(RULES)
    assert [rule.id for rule in RULES if ": " not in rule.message] == []


def test_all_violations_are_reported_together() -> None:
    data = changed("metadata", "name", to="9")
    data["spec"]["defaultTask"] = "other"
    data["spec"]["models"][0]["replicaRange"] = {"min": 2, "max": 1}
    assert {violation.rule.id for violation in violations(parsed(data))} == {
        "service-name",
        "default-task-unknown",
        "replicas-union",
        "replica-range-order",
    }


def test_memory_counts_every_replica_on_the_fullest_gpu_at_the_ranges_maxima() -> None:
    data = sample()
    data["spec"]["models"][0]["accelerator"]["memoryPercent"] = 40
    data["spec"]["models"][1]["accelerator"] = {"group": "a", "memoryPercent": 30}
    assert {violation.rule.id for violation in violations(parsed(data))} == set()  # 40 + 2 * 30 on GPU 0
    data["spec"]["models"][1]["accelerator"]["memoryPercent"] = 31
    assert [violation.rule.id for violation in violations(parsed(data))] == ["group-memory"]


@given(services())
@settings(deadline=None, max_examples=50)
def test_random_valid_services_break_no_rule(data: Data) -> None:
    assert violations(parsed(data)) == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed(*MODEL, "replicas", to=None), {"replicas-union"}),
        (changed(*MODEL, "profile", to={"preset": "opt-125m", "configMapRef": {"name": "x"}}), {"profile-union"}),
        (changed(*TASK, "deadline", "hard", to={"within": "1s"}), {"deadline-union"}),
        (changed(*TASK, "quality", "small", to="-0.1"), {"quality-range"}),
        (changed(SPEC, "policy", to={"promotion": {"margin": "1.01"}}), {"margin-range"}),
        (changed("metadata", "name", to="small"), {"named-like-service"}),
        (changed(SPEC, "load", to={"prometheus": PROMETHEUS, "direct": {"interval": "1s"}}), {"load-union"}),
        (changed(SPEC, "load", to={"prometheus": PROMETHEUS, "staleAfter": "14s"}), {"stale-early"}),
        (
            changed(SPEC, "load", to={"prometheus": PROMETHEUS | {"scrapeInterval": "0s"}}),
            {"load-interval-zero"},
        ),
        (changed("metadata", "name", to="o" * 31), {"service-name"}),
        (
            changed(
                SPEC, "policy", to={"source": {"training": {}, "imported": {"configMapName": "a", "digest": DIGEST}}}
            ),
            {"source-union"},
        ),
        (changed(*MODEL, "engine", to={"modelCache": {}}), {"model-cache-union"}),
        (changed(SPEC, "router", to={"pod": {"volumes": [{"name": "bes-x"}]}}), {"volume-union", "volume-reserved"}),
    ],
)
def test_a_rule_is_broken_from_the_other_side_too(data: Data, expected: set[str]) -> None:
    assert {violation.rule.id for violation in violations(parsed(data))} == expected


@pytest.mark.parametrize(
    "data",
    [
        changed("metadata", "name", to="chat"),  # the default task may have the service's name: it means the same
        changed("metadata", "name", to="o" * 30),
        changed(*TASK, "quality", to={"small": "0", "large": "1"}),
        changed(*TASK, "tokens", to={"prompt": 2032, "output": 16}),
        changed(*TASK, "deadline", "soft", "zeroFrom", to="601ms"),
        changed(SPEC, "models", 1, "replicaRange", to={"min": 3, "max": 3}),
        changed(SPEC, "load", to={"direct": {"interval": "1s"}, "staleAfter": "1s"}),
        changed(SPEC, "load", to={"prometheus": PROMETHEUS, "staleAfter": "15s"}),
        changed(SPEC, "load", to={"prometheus": PROMETHEUS | SECURED}),
        changed(SPEC, "policy", to={"promotion": {"margin": "0"}}),
        changed(SPEC, "policy", to={"promotion": {"margin": "1"}}),
        other_class_with_its_own_profile(),
        changed(SPEC, "policy", to={"source": {"imported": {"configMapName": "a", "digest": DIGEST}}}),
        pod(labels={"team": "a"}, volumes=[VOLUME], volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        changed(SPEC, "policy", to={"type": "Static", "static": {"model": "large"}}),
        changed(SPEC, "acceleratorGroups", to=[GROUP | {"sharing": "MPS", "interferencePercent": 0}]),
    ],
)
def test_what_is_just_inside_a_rule_is_taken(data: Data) -> None:
    assert violations(parsed(data)) == ()
