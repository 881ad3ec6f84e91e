"""The status: whole after a round trip through the API server's form, read leniently, never too long to be written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from bes_api.service_status import (
    CandidateStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    ModelStatus,
    PolicyStatus,
    PolicyVersion,
    Reason,
    RetiredPolicy,
    ServedStatus,
    ServiceStatus,
    TrainingState,
    TrainingStatus,
    read_status,
    write_status,
)

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


def condition(**fields: Any) -> Condition:
    whole: dict[str, Any] = {
        "type": ConditionType.READY,
        "status": ConditionStatus.TRUE,
        "observed_generation": 3,
        "last_transition_time": NOW,
        "reason": Reason.AS_DESIRED,
        "message": "everything is as the resource states it",
    }
    return Condition(**(whole | fields))


STATUS = ServiceStatus(
    observed_generation=3,
    conditions=(condition(),),
    endpoint="http://opt-router.default.svc:8080",
    models=(ModelStatus(name="opt-125m", deployment_name="opt-opt-125m-01234567", ready=1, desired=2),),
    policy=PolicyStatus(
        active=PolicyVersion(name="Learned", digest=DIGEST, score=Decimal("0.981"), rule="Priced", since=NOW),
        candidate=CandidateStatus(name="Learned", digest=DIGEST, since=NOW, decisions=12, message="1,000 decisions"),
        training=TrainingStatus(scenario=DIGEST, state=TrainingState.QUEUED, position=2, since=NOW),
        history=(RetiredPolicy(name="Learned", digest=DIGEST, since=NOW, until=NOW, reason="Superseded"),),
    ),
    served=ServedStatus(performance=Decimal("0.97"), in_time=Decimal("0.99"), since=NOW, until=NOW),
)


def test_it_is_the_same_after_a_round_trip() -> None:
    written = write_status(STATUS)
    assert read_status({"status": written}) == STATUS
    assert written["observedGeneration"] == 3
    assert written["conditions"][0]["lastTransitionTime"] == "2026-01-31T12:00:00Z"
    assert written["served"]["performance"] == "0.97"
    assert "position" not in write_status(
        STATUS.model_copy(update={"policy": PolicyStatus(active=STATUS.policy and STATUS.policy.active)})
    )


def test_instants_have_no_fraction_of_a_second_and_are_written_in_utc() -> None:
    elsewhere = datetime.fromisoformat("2026-01-31T13:00:00.123456+01:00")
    assert condition(last_transition_time=elsewhere) == condition()


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="written with its zone"):
        condition(last_transition_time=datetime.fromisoformat("2026-01-31T12:00:00"))


@pytest.mark.parametrize(
    "stored", [{}, {"status": None}, {"status": {"conditions": "none"}}, {"status": {"models": [{}]}}]
)
def test_an_absent_or_unreadable_status_is_the_empty_one(stored: dict[str, Any]) -> None:
    assert read_status(stored) == ServiceStatus(observed_generation=-1)


def test_fields_of_a_newer_operator_are_left_out() -> None:
    written = write_status(STATUS)
    written["added"] = written["policy"]["active"]["added"] = 1
    assert read_status({"status": written}) == STATUS


def test_a_message_that_is_too_long_is_cut_and_not_refused() -> None:
    message = condition(message="x" * 5000).message
    assert (len(message), message[-3:]) == (2048, "...")


def test_a_condition_is_found_by_its_type() -> None:
    assert STATUS.condition(ConditionType.READY) == condition()
    assert STATUS.condition(ConditionType.STALLED) is None


def test_every_reason_is_one_word_as_kubernetes_wants_it() -> None:
    for reason in Reason:
        assert condition(reason=reason, last_transition_time=NOW + timedelta()).reason == reason
