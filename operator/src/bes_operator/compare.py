"""Whether an intent must be applied to the object that is there. Pure.

Only leaves of the intent are looked at, so what the API server fills in is no difference. What our field manager owns
must be just those leaves: more is left from an earlier intent and has to go, less was taken out by somebody else.
Empty maps and lists say nothing, except where being there chooses (an `emptyDir`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bes_api.quantities import parse_quantity
from bes_operator.manifest import Manifest

MERGE_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "imagePullSecrets": (("name",),),
    "secrets": (("name",),),
    "ownerReferences": (("uid",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "resourceClaims": (("name",),),
    "claims": (("name",),),
    "hostAliases": (("ip",),),
    "schedulingGates": (("name",),),
    "conditions": (("type",),),
    "models": (("name",),),
}
"""List -> keys by which the API server merges its items (x-kubernetes-list-map-keys); other lists are atomic."""
MERGE_DEFAULTS = {"protocol": "TCP"}
"""Of merge keys that an intent may leave out."""
_QUANTITIES = frozenset({"limits", "requests", "capacity", "hard"})
"""Maps whose values the API server rewrites in its own form: 1000m becomes 1."""
_QUANTITY = frozenset({"sizeLimit", "storage", "divisor"})
"""Single fields of that sort."""
_CHOICES = frozenset({"emptyDir"})
"""What being there says, even when nothing is in it."""
_NO_FIELDS = frozenset({"apiVersion", "kind", "name", "namespace", "uid", "resourceVersion"})
"""Of an object's top level and its metadata: identity and preconditions, which no manager owns."""


def must_apply(intent: Manifest, live: Manifest | None, manager: str) -> bool:
    """Whether ``manager`` has to apply ``intent`` to make ``live`` (None: there is nothing yet) what it says."""
    if live is None:
        return True
    body, owned = _body(intent), _owned(live, manager)
    return not owned or _differs(body, live, "") or not _covers(body, owned) or _lacks(body, owned)


def must_replace(intent: Manifest, live: Manifest) -> bool:
    """Whether ``live`` can only be made anew: a binding's role never changes, and a release names the chart's roles."""
    return intent["kind"] == "RoleBinding" and _differs(intent.get("roleRef") or {}, live.get("roleRef"), "roleRef")


def _body(intent: Manifest) -> dict[str, Any]:
    metadata = {name: value for name, value in intent["metadata"].items() if name not in _NO_FIELDS}
    return {**{name: value for name, value in intent.items() if name not in _NO_FIELDS}, "metadata": metadata}


def _differs(wanted: Any, found: Any, field: str) -> bool:
    if isinstance(wanted, Mapping):
        if not wanted:
            return field in _CHOICES and not isinstance(found, Mapping)
        if not isinstance(found, Mapping):
            return any(_says(value, name) for name, value in wanted.items())
        if field in _QUANTITIES:
            return any(not _same_quantity(value, found.get(name)) for name, value in wanted.items())
        return any(_differs(value, found.get(name), name) for name, value in wanted.items())
    if _is_list(wanted):
        return _list_differs(wanted, found if _is_list(found) else (), field)
    if field in _QUANTITY:
        return not _same_quantity(wanted, found)
    if found is None and wanted in (None, False, 0, ""):  # zero values: the API server leaves many of them out
        return False
    return isinstance(wanted, bool) != isinstance(found, bool) or bool(wanted != found)


def _says(value: Any, field: str) -> bool:
    """Whether there is a leaf in it."""
    if isinstance(value, Mapping):
        return field in _CHOICES or any(_says(inner, name) for name, inner in value.items())
    return value is not None and (not _is_list(value) or bool(value))


def _list_differs(wanted: Sequence[Any], found: Sequence[Any], field: str) -> bool:
    keys = merge_keys(field, wanted)
    if keys is None:
        return (bool(wanted) and len(wanted) != len(found)) or any(map(_item_differs, wanted, found))
    there = {_identity(item, keys): item for item in found if isinstance(item, Mapping)}
    return any(
        _identity(item, keys) not in there or _differs(item, there[_identity(item, keys)], "") for item in wanted
    )


def _item_differs(wanted: Any, found: Any) -> bool:
    return _differs(wanted, found, "")


def merge_keys(field: str, items: Sequence[Any]) -> tuple[str, ...] | None:
    """The keys by which items of the list ``field`` are told apart; None: the list is one value."""
    for keys in MERGE_KEYS.get(field, ()):
        if all(
            isinstance(item, Mapping) and all(key in item or key in MERGE_DEFAULTS for key in keys) for item in items
        ):
            return keys
    return None


def _identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key, MERGE_DEFAULTS.get(key)) for key in keys)


def _same_quantity(wanted: Any, found: Any) -> bool:
    if not isinstance(wanted, int | str) or not isinstance(found, int | str):
        return bool(wanted == found)
    try:
        return parse_quantity(wanted) == parse_quantity(found)
    except ValueError:
        return wanted == found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _owned(live: Manifest, manager: str) -> dict[str, Any]:
    """FieldsV1 of what ``manager`` applied: `f:` a field; of a list `k:` item by keys, `v:` by value, `i:` by place."""
    owned: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            _merge(owned, entry.get("fieldsV1") or {})
    return owned


def _merge(into: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for step, below in fields.items():
        _merge(into.setdefault(step, {}), below)


def _covers(intent: Any, fields: Mapping[str, Any]) -> bool:
    """Whether every leaf of ``fields`` is in ``intent``."""
    for step, below in fields.items():
        if step == ".":
            continue
        sign, _, rest = step.partition(":")
        if sign == "f":
            inner = intent.get(rest, _ABSENT) if isinstance(intent, Mapping) else _ABSENT
        else:
            inner = _item(intent, sign, json.loads(rest)) if _is_list(intent) else _ABSENT
        if inner is _ABSENT or not _covers(inner, below):
            return False
    return True


def _lacks(intent: Any, fields: Mapping[str, Any]) -> bool:
    """Whether a leaf of ``intent`` is not in ``fields``; what is owned as a whole is owned with all that is in it."""
    steps = [step for step in fields if step != "."]
    if not steps:
        return False
    if isinstance(intent, Mapping):
        said = ((fields.get(f"f:{name}"), value) for name, value in intent.items() if _says(value, name))
        return any(below is None or _lacks(value, below) for below, value in said)
    if not _is_list(intent):
        return False
    found = [(_item(intent, *_named(step)), fields[step]) for step in steps]
    return len(found) < len(intent) or any(item is not _ABSENT and _lacks(item, below) for item, below in found)


def _named(step: str) -> tuple[str, Any]:
    sign, _, rest = step.partition(":")
    return sign, json.loads(rest)


def _item(items: Sequence[Any], sign: str, name: Any) -> Any:
    if sign == "v":
        return name if name in items else _ABSENT
    if sign == "i":
        return items[name] if name < len(items) else _ABSENT
    for item in items:
        if isinstance(item, Mapping) and all(
            item.get(key, MERGE_DEFAULTS.get(key)) == value for key, value in name.items()
        ):
            return {**name, **item}
    return _ABSENT


_ABSENT = object()
