"""Stored objects: a newer release's fields are left out, anything else is checked again, one error says it all."""

from typing import Any

import pytest
from service_samples import changed, parsed, sample

from bes_api.errors import DocumentError
from bes_api.stored import read_stored


def stored(data: dict[str, Any]) -> dict[str, Any]:
    more = {"namespace": "team", "uid": "0", "resourceVersion": "1", "managedFields": [{"manager": "kubectl"}]}
    return data | {"metadata": data["metadata"] | more, "status": {"observedGeneration": 1}}


def test_it_is_the_service_that_was_applied() -> None:
    service = read_stored(stored(sample()))
    assert service.spec == parsed(sample()).spec
    assert service.name == "opt"


def test_fields_of_a_newer_release_are_left_out_at_every_depth() -> None:
    data = stored(sample())
    data["spec"]["added"] = {"a": 1}
    data["spec"]["models"][0]["added"] = data["spec"]["tasks"][0]["deadline"]["soft"]["added"] = 1
    assert read_stored(data).spec == parsed(sample()).spec


def test_a_broken_form_is_one_error_with_every_reason() -> None:
    data = stored(changed("spec", "models", 0, "replicas", to="two"))
    del data["spec"]["defaultTask"]
    with pytest.raises(DocumentError) as error:
        read_stored(data)
    said = [line.removeprefix("BestEffortService team/opt: ") for line in str(error.value).splitlines()]
    assert said == [
        "spec.models[0].replicas: 'two' has another type: write a whole number, without quotes",
        "spec.defaultTask: is required and missing: add it",
    ]


def test_rules_that_an_older_schema_did_not_know_are_checked_too() -> None:
    with pytest.raises(DocumentError) as error:
        read_stored(stored(changed("spec", "defaultTask", to="other")))
    assert [problem.rule for problem in error.value.problems] == ["default-task-unknown"]


@pytest.mark.parametrize("data", [{}, {"metadata": None}, {"metadata": {"name": 1}, "spec": []}])
def test_what_is_no_service_at_all_is_the_same_error(data: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="BestEffortService "):
        read_stored(data)
