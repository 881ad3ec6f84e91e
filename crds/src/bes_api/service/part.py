"""What every part of the resource is made of: the frozen base, bounded numbers, and how lists merge."""

from typing import Annotated, Any, Final, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from bes_api.quantities import ObjectName

# Upper ends keep integers inside int64, lists inside the cost budget of rules, and mistakes of the keyboard out.
Count = Annotated[int, Field(strict=True, ge=1, le=1024)]
Tokens = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Decisions = Annotated[int, Field(strict=True, ge=1_000, le=1_000_000_000)]
Revision = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Flag = Annotated[bool, Field(strict=True)]

ATOMIC: Final[JsonDict] = {"x-kubernetes-list-type": "atomic"}
"""A list that is replaced as a whole."""


def map_by(key: str) -> JsonDict:
    """A list that is a map by ``key``: no value of it twice, and elements merge one by one."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


BY_NAME: Final[JsonDict] = map_by("name")


class Part(BaseModel):
    """Base of the resource's objects: frozen, camelCase, unknown fields refused; null is absent, as in Kubernetes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return _without_nulls({key: _without_nulls(value) for key, value in data.items()}) if _is_map(data) else data


def _is_map(data: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict)


def _without_nulls(value: Any) -> Any:
    return {key: member for key, member in value.items() if member is not None} if _is_map(value) else value


class ObjectReference(Part):
    """An object beside the service, by name."""

    name: ObjectName
    """Its name."""
