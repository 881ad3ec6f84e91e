"""Pydantic's errors in our words, with the document's own field names: what is wrong, and how to mend it."""

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bes_api import quantities
from bes_api.location import Location

_PATTERNS: Mapping[str, str] = {
    quantities.DNS_LABEL_PATTERN: "lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    quantities.DNS_SUBDOMAIN_PATTERN: "lower-case letters, digits, hyphens and dots, each part beginning and ending "
    "with a letter or digit",
    quantities.WHOLE_NUMBER_PATTERN: "a whole number above 0, in quotes",
    quantities.DEVICE_CLASS_PATTERN: "letters, digits, hyphens and dots, for example A100-80GB",
    quantities.MODEL_ID_PATTERN: "a model as its hub names it, for example facebook/opt-125m",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_EXPECTED: Mapping[str, str] = {
    "int_type": "write a whole number, without quotes",
    "string_type": "write a string; put it in quotes",
    "model_type": "write a mapping of fields",
    "model_attributes_type": "write a mapping of fields",
    "dict_type": "write a mapping",
    "tuple_type": "write a list",
}

SHOWN_CHARACTERS = 60


def complaints(error: ValidationError, form: type[BaseModel]) -> Iterator[tuple[Location, str]]:
    """Every error with its location in the document."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # only because every element has an error of its own
        location = tuple(part for part in detail["loc"] if part != "[key]")
        yield location, _message(detail, form)


def _message(detail: ErrorDetails, form: type[BaseModel]) -> str:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    match kind:
        case "extra_forbidden":
            return _unknown_field(detail["loc"], form)
        case "missing":
            return "is required and missing: add it"
        case "literal_error" | "enum":
            return f"{_shown(given)} is not known here: write {context['expected']}"
        case "string_pattern_mismatch":
            return f"{_shown(given)} has another form: write {_PATTERNS.get(context['pattern'], context['pattern'])}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            bound, words = _BOUNDS[kind]
            return f"{_shown(given)} is out of range: it must be {words} {context[bound]}"
        case "too_short":
            return f"needs at least {context['min_length']} element(s): add one"
        case "too_long":
            return f"has {context['actual_length']} elements and may have {context['max_length']}: remove some"
        case "string_too_long":
            return f"{_shown(given)} is longer than {context['max_length']} characters: shorten it"
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
    if kind in _EXPECTED:
        return f"{_shown(given)} has another type: {_EXPECTED[kind]}" if _short(given) else _EXPECTED[kind]
    return _lower_first(detail["msg"])


def _unknown_field(location: tuple[str | int, ...], form: type[BaseModel]) -> str:
    known = sorted(_fields_at(form, location[:-1]))
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"is no field of this version: did you mean {close[0]}?"
    return f"is no field of this version: remove it (fields here: {', '.join(known)})"


def _fields_at(form: type[BaseModel], location: tuple[str | int, ...]) -> Iterator[str]:
    """Names, as documents write them, of the fields of the object at ``location``."""
    current: type[BaseModel] = form
    for part in location:
        if isinstance(part, int):
            continue
        annotation = next(
            field.annotation for name, field in current.model_fields.items() if (field.alias or name) == part
        )
        current = next(iter(_models_in(annotation)))
    return (field.alias or name for name, field in current.model_fields.items())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _short(given: object) -> bool:
    return given is None or isinstance(given, str | int | float)


def _shown(given: object) -> str:
    try:
        text = repr(given)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
