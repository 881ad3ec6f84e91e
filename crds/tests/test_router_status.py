"""The status document: whole after a round trip, and read by whoever does not know its newest fields."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bes_api.router_status import (
    CandidateStatus,
    ConfigurationStatus,
    DiscoveryStatus,
    LoadStatus,
    PolicyStatus,
    RouterStatus,
    TaskStatus,
)

DIGEST = "sha256:" + "a" * 64
COUNTS = st.integers(0, 2**60)
AMOUNTS = st.floats(0, 1e12, allow_nan=False)
TASKS = st.builds(
    TaskStatus,
    name=st.text(),
    in_time=COUNTS,
    late=COUNTS,
    failed=COUNTS,
    client_gone=COUNTS,
    client_fault=COUNTS,
    reward=AMOUNTS,
    peak_reward=AMOUNTS,
    decisions=st.dictionaries(st.text(), COUNTS, max_size=3),
)


def status(**fields: Any) -> RouterStatus:
    whole: dict[str, Any] = {
        "service": "opt",
        "boot_id": "b",
        "started_at": 1.0,
        "uptime_seconds": 2.5,
        "ready": True,
        "draining": False,
        "configuration": ConfigurationStatus(digest=DIGEST),
        "policy": PolicyStatus(asked="Delivered", name="Learned", digest=DIGEST, fallback=False, failures=0),
        "tasks": (),
        "errors": {},
        "load": LoadStatus(source="direct", known=1, listed=2, share=0.5),
        "discovery": DiscoveryStatus(source="static"),
        "in_flight": 0,
        "connections": 1,
        "backends_ready": 1,
        "backends_listed": 2,
        "versions": {"python": "3.11"},
    }
    return RouterStatus(**(whole | fields))


@given(st.lists(TASKS, max_size=3), st.text(), st.none() | AMOUNTS)
def test_it_is_the_same_after_a_round_trip(tasks: list[TaskStatus], service: str, mean: float | None) -> None:
    candidate = CandidateStatus(digest=DIGEST, slow_microseconds=1000.0, mean_microseconds=mean)
    whole = status(tasks=tuple(tasks), service=service, candidate=candidate)
    assert RouterStatus.model_validate_json(whole.model_dump_json()) == whole


@given(TASKS)
def test_every_request_of_a_task_is_in_exactly_one_count(task: TaskStatus) -> None:
    assert task.requests == task.in_time + task.late + task.failed + task.client_gone + task.client_fault


def test_a_reader_ignores_what_a_newer_router_adds() -> None:
    document = status().model_dump(mode="json")
    document["added"] = document["policy"]["added"] = 1
    assert RouterStatus.model_validate(document) == status()


@pytest.mark.parametrize("fields", [{"version": 2}, {"in_flight": -1}, {"uptime_seconds": float("nan")}])
def test_another_version_and_nonsense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RouterStatus.model_validate(status().model_dump() | fields)
