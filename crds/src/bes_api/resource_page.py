"""The page of the resource: every field, default and rule, made from the same schema that the API server gets.

`make resource` writes it; what lies in docs/ is that output, and a test compares them.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from bes_api import quantities
from bes_api.conditions import LARGEST
from bes_api.crd import CATEGORIES, COLUMNS, SHORT_NAME, resource_schema
from bes_api.origins import URL_PATTERN
from bes_api.rules import RULES
from bes_api.service import API_VERSION, KIND
from bes_api.structural_schema import Schema

_FORMS = {
    quantities.DURATION_PATTERN: "duration",
    quantities.DECIMAL_PATTERN: "decimal string",
    quantities.QUANTITY_PATTERN: "quantity",
    quantities.DNS_LABEL_PATTERN: "name",
    quantities.DNS_SUBDOMAIN_PATTERN: "name",
    URL_PATTERN: "URL",
    r"^sha256:[0-9a-f]{64}$": "digest",
}
_HEAD = f"""<!-- Made by `make resource` from bes_api; do not edit. -->
# The resource

`{KIND}` ({API_VERSION}, short name `{SHORT_NAME}`, categories {{categories}}) is one application: models, tasks, router
and policy. `kubectl explain {SHORT_NAME}.spec --recursive` says the same. Samples: [`examples/`](../examples).

- A *duration* is written as in GEP-2257 (`600ms`, `1m30s`), a fraction as a *decimal string* (`"0.579"`), a *quantity*
  as Kubernetes writes it (`2`, `500m`, `16Gi`). Floats have no place here.
- A *map by name* is a list whose elements merge by that field; no value of it stands twice.
- Where one of several members says the kind (hard or soft, preset or configMapRef), exactly one is set.
- Objects named here (Secrets, ConfigMaps, claims) lie in the service's namespace. Whoever may create a `{KIND}` may
  create pods in it and read what it names: see [Security](../SECURITY.md).
- `kubectl get {SHORT_NAME}` shows {{columns}}.
"""
LARGE = 7
"""An object with so many fields has a table of its own."""
_RULES = """## Rules

The API server refuses a resource that breaks one of these, with the message; so does every `bes` command, with the
line in the file. The operator checks them once more when it reads what is stored.

| Rule | Where | Message |
|---|---|---|
"""


def page() -> str:
    """The whole page, Markdown."""
    schema = resource_schema()
    columns = ", ".join(name for name, *_ in COLUMNS)
    head = _HEAD.format(categories=" and ".join(f"`{name}`" for name in CATEGORIES), columns=columns)
    parts = [head, "## Fields\n", *_Tables().objects("spec", schema["properties"]["spec"])]
    parts.append(_RULES + "\n".join(_rule_rows()) + "\n")
    parts += ["## Status\n", *_Tables().objects("status", schema["properties"]["status"])]
    return "\n".join(parts)


class _Tables:
    """A table for each large object; small ones are rows of the table around them, with a dotted name."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    def objects(self, path: str, schema: Schema) -> Iterator[str]:
        """Tables of the object at ``path`` and of the large objects in it."""
        self._told[path] = _members(schema)
        large: list[tuple[str, Schema]] = []
        rows = list(self._rows(path, "", schema, large))
        yield f"### {path}\n\n| Field | Type | Default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        for below, inner in large:
            yield from self.objects(below, inner)

    def _rows(self, path: str, prefix: str, schema: Schema, large: list[tuple[str, Schema]]) -> Iterator[str]:
        for name, field in schema["properties"].items():
            below = prefix + name + ("[]" if "items" in field else "")
            target = field.get("items", field)
            inside = "properties" in target
            apart = inside and (len(target["properties"]) >= LARGE or len(path) <= len("status"))
            link = self._link(f"{path}.{below}", target, large) if apart else ""
            said = ": ".join(part for part in (_type(field), link) if part)
            default = "required" if name in schema.get("required", ()) else _default(field)
            yield f"| `{prefix}{name}` | {said} | {default} | {_cell(field['description'])} |"
            if inside and not apart:
                yield from self._rows(path, f"{below}.", target, large)

    def _link(self, path: str, schema: Schema, large: list[tuple[str, Schema]]) -> str:
        members = _members(schema)
        for known, told in self._told.items():
            if members <= told:
                absent = sorted(name.partition(":")[0] for name in told - members)
                but = f", without {', '.join(absent)}" if absent else ""
                return f"as [{known}](#{_anchor(known)}){but}"
        self._told[path] = members
        large.append((path, schema))
        return f"[{path}](#{_anchor(path)})"


def _rule_rows() -> Iterator[str]:
    for rule in RULES:
        where = ", ".join(f"`{path.replace('[*]', '[]')}`" if path else "the whole" for path in rule.paths)
        yield f"| {rule.id} | {where} | {_cell(rule.message)} |"


def _type(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{word or chr(34) * 2}`" for word in field["enum"])
    if "x-kubernetes-int-or-string" in field:
        return "quantity"
    match field["type"]:
        case "array" if "x-kubernetes-list-map-keys" in field:
            return f"map by {field['x-kubernetes-list-map-keys'][0]}, at most {field['maxItems']}"
        case "array":
            what = "" if "properties" in field["items"] else f" of {_type(field['items'])}"
            return f"list{what}, at most {field['maxItems']}"
        case "object" if "additionalProperties" in field:
            return f"map to {_type(field['additionalProperties'])}, at most {field['maxProperties']}"
        case "object":
            return "" if "properties" in field else "object"
        case "integer" if field["maximum"] < LARGEST:
            return f"{field['minimum']}..{field['maximum']}"
        case "string":
            return str(field.get("format") or _FORMS.get(field.get("pattern", ""), "string"))
        case kind:
            return str(kind)


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    if not isinstance(field["default"], dict):
        return f"`{json.dumps(field['default'])}`"
    chosen = [name for name in field["default"] if "default" not in field["properties"][name]]
    return ", ".join(f"`{name}`" for name in chosen) or "its members'"


def _members(schema: Schema) -> set[str]:
    """The fields of an object, each with its form."""
    return {f"{name}:{json.dumps(field)}" for name, field in schema["properties"].items()}


def _anchor(heading: str) -> str:
    return "".join(character for character in heading.lower() if character.isalnum() or character == "-")


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(page())
