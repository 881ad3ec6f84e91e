"""The generator refuses, with the field's path, whatever a CustomResourceDefinition cannot say."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from bes_api.quantities import DecimalString, Duration
from bes_api.service.part import ATOMIC
from bes_api.structural_schema import UnplaceableError, structural_schema


def schema_of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The schema of a form whose ``outer.field`` is of that type."""
    inner = create_model("Inner", field=(annotation, Field(default, description="A field.")))
    outer = create_model("Outer", outer=(inner, Field(description="What is outside.")))
    found: dict[str, Any] = structural_schema(outer)["properties"]["outer"]["properties"]["field"]
    return found


class Some(BaseModel):
    """Some object."""

    name: Annotated[str, Field(max_length=3, description="Its name.")] = "a"


class Mute(BaseModel):
    """An object whose field explains nothing."""

    mute: Literal["a"]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (float, "floats have no place"),
        (int, "an integer needs a minimum and a maximum"),
        (Annotated[int, Field(gt=0, le=5)], "exclusiveMinimum has no place"),
        (str, "a string needs a maximal length"),
        (Decimal, "a union has no place"),
        (int | str, "a union has no place"),
        (Annotated[Some | int, Field()], "a union has no place"),
        (Annotated[tuple[Some, ...], Field(json_schema_extra=ATOMIC)], "a list needs a maximal length"),
        (Annotated[tuple[Some, ...], Field(max_length=2)], "x-kubernetes-list-type"),
        (tuple[Literal["a"], Literal["b"]], "prefixItems has no place"),
        (dict[str, Some], "the keys of a map need a maximal length"),
        (dict[Annotated[str, Field(max_length=3)], Some], "a map needs a maximal size"),
        (dict[str, Any], "an object has fields, or is a map with values of one form"),
        (Any, "has no single type"),
        (Annotated[str, Field(max_length=9, pattern=r"^\d+$")], "RE2"),
        (Annotated[str, Field(max_length=9, json_schema_extra={"pattern": "^(?!a)b$"})], "RE2"),
        (Annotated[str, Field(max_length=9, json_schema_extra={"pattern": r"^(a)\1$"})], "RE2"),
        (Annotated[str, Field(max_length=9, json_schema_extra={"pattern": "^a++$"})], "RE2"),
        (Annotated[str, Field(max_length=9, pattern="^a{1,2000}$")], "RE2"),
        (Annotated[str, Field(max_length=9, json_schema_extra={"oneOf": [{"pattern": "^a$"}]})], "oneOf has no place"),
    ],
)
def test_what_has_no_place_is_refused_with_the_fields_path(annotation: Any, reason: str) -> None:
    with pytest.raises(UnplaceableError, match=rf"^outer\.field(\[\*\])?: .*{reason}"):
        schema_of(annotation)


def test_a_field_that_explains_nothing_is_refused() -> None:
    with pytest.raises(UnplaceableError, match=r"^mute: .*write a docstring"):
        structural_schema(Mute)


def test_what_may_be_absent_has_no_default_and_no_null() -> None:
    assert schema_of(Annotated[str, Field(max_length=3)] | None, None) == {
        "description": "A field.",
        "type": "string",
        "maxLength": 3,
    }


def test_a_word_that_is_always_the_same_is_an_enumeration_of_one() -> None:
    assert schema_of(Literal["a"], "a") == {"description": "A field.", "type": "string", "enum": ["a"], "default": "a"}


def test_defaults_are_written_as_the_resource_writes_them() -> None:
    assert schema_of(Duration, timedelta(minutes=5))["default"] == "5m"
    assert schema_of(DecimalString, Decimal("0.010"))["default"] == "0.010"


def test_defaults_of_objects_are_whole_so_that_rules_can_be_tried_on_them() -> None:
    assert schema_of(Some, Some())["default"] == {"name": "a"}
    assert schema_of(Some, Some(name="b"))["default"] == {"name": "b"}


def test_keys_of_a_map_are_held_to_their_form_by_a_rule() -> None:
    key = Annotated[str, Field(max_length=3, pattern="^[a-z]+$")]
    found = schema_of(Annotated[dict[key, Literal["x"]], Field(max_length=2)])
    assert found["additionalProperties"]["enum"] == ["x"]
    assert found["x-kubernetes-validations"] == [
        {
            "rule": "self.all(k, k.size() <= 3 && k.matches(r'^[a-z]+$'))",
            "message": "a key has another form: keys have at most 3 characters and match ^[a-z]+$",
        }
    ]
