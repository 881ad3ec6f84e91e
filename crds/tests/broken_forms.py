"""Every way in which a valid service can be broken at one place: the form's own defects, one at a time."""

import copy
from collections.abc import Iterator
from typing import Any

from service_samples import Data

from bes_api.location import Location
from bes_api.structural_schema import Schema


def defects(data: Data, schema: Schema) -> list[tuple[Location, Data]]:
    """Copies of ``data``, each with one thing in its spec changed, and where; some of them are still valid."""
    return [
        (("spec", *location), _replaced(data, ("spec", *location), value))
        for location, value in _changes(data["spec"], schema, ())
    ]


class _Absent:
    """In the place of a value: the key is removed."""


def _changes(value: Any, schema: Schema, at: Location) -> Iterator[tuple[Location, Any]]:
    """Each place with what it becomes."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        yield from _each(at, "text", [], None)
    elif isinstance(value, dict):
        yield from _each(at, "text", [])
        yield (*at, "unknown Field"), 1
        for key, child in value.items():
            yield (*at, key), _Absent
            yield (*at, key), None
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if known is not None:
                yield from _changes(child, known, (*at, key))
    elif isinstance(value, list):
        yield from _each(at, {}, [], [None], value * 2, value * 70)
        for i, child in enumerate(value):
            yield from _changes(child, schema["items"], (*at, i))
    elif isinstance(value, bool):
        yield from _each(at, not value, 1, "true")
    elif isinstance(value, int):
        yield from _each(at, -1, 0, value + 1, 10**12, 2**63 - 1, str(value), 1.5, True)
    else:
        long = value * (schema.get("maxLength", 4096) // max(len(value), 1) + 1)
        yield from _each(
            at,
            "",
            "\u00e9",
            " a",
            "a\n",
            "A_b",
            "-1",
            "0",
            "1.000000001",
            "99999h99999h",
            "0s",
            "x.y/z",
            1,
            [],
            long,
        )


def _each(at: Location, *others: Any) -> Iterator[tuple[Location, Any]]:
    return ((at, other) for other in others)


def _replaced(data: Data, at: Location, value: Any) -> Data:
    changed = copy.deepcopy(data)
    node: Any = changed
    for step in at[:-1]:
        node = node[step]
    if value is _Absent:
        del node[at[-1]]
    else:
        node[at[-1]] = value
    return changed
