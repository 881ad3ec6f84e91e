"""From pydantic's JSON schema to a structural schema, as a CustomResourceDefinition takes it.

What has no place there is refused with the field's path, so that nothing is lost in silence: unions other than
`Optional`, numbers with a fraction, exclusive bounds, patterns that RE2 does not know, and whatever is unbounded.
"""

import copy
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from bes_api.quantities import format_duration

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
)
_HANDLED = ("title", "description", "default", "const", "properties", "items", "additionalProperties", "propertyNames")
_INT_OR_STRING = "x-kubernetes-int-or-string"
_RE2_REPETITIONS = 1000


class UnplaceableError(ValueError):
    """A type that no CustomResourceDefinition can say; the text names the field and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path or 'the root'}: {reason}")


def structural_schema(form: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The schema of ``form``, by alias; ``defaults`` False: nothing is filled in. Raises UnplaceableError."""
    whole = form.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = whole.pop("$defs", {})
    return _Writer(definitions, defaults).schema(whole, "")


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """A default as the resource writes it; pydantic would write durations as ISO 8601 does."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class _Writer:
    def __init__(self, definitions: Mapping[str, Schema], defaults: bool) -> None:
        self._definitions, self._defaults = definitions, defaults

    def schema(self, node: Schema, path: str) -> Schema:
        node = self._plain(node, path)
        out: Schema = {}
        if "description" in node:
            out["description"] = " ".join(node["description"].replace("``", "").split())
        if _INT_OR_STRING in node:
            return out | _int_or_string(node)
        unknown = set(node) - set(_KEPT) - set(_HANDLED) - {"patternProperties"}
        if unknown:
            raise UnplaceableError(path, f"{', '.join(sorted(unknown))} has no place in a CustomResourceDefinition")
        out |= {key: copy.deepcopy(node[key]) for key in _KEPT if key in node}
        if "const" in node:
            out["enum"] = [node["const"]]
        if out.get("type") == "integer":
            out["format"] = "int64"
        if "properties" in node:
            out["properties"] = {
                name: self._property(child, f"{path}.{name}".removeprefix("."))
                for name, child in node["properties"].items()
            }
        elif out.get("type") == "object" and "x-kubernetes-preserve-unknown-fields" not in out:
            self._map(node, out, path)
        if "items" in node:
            out["items"] = self.schema(node["items"], f"{path}[*]")
        _refuse(out, path)
        return out

    def _property(self, node: Schema, path: str) -> Schema:
        out = self.schema(node, path)
        if "description" not in out:
            raise UnplaceableError(path, "kubectl explain would say nothing: write a docstring below the field")
        default = _without_nulls(node.get("default"))
        if self._defaults and default is not None and (default or not isinstance(default, dict | list)):
            out["default"] = default  # in full: the API server tries rules on it before it fills in what is inside
        return out

    def _plain(self, node: Schema, path: str) -> Schema:
        """``node`` with its reference resolved and `Optional` undone; what stands beside a reference wins."""
        if "$ref" in node:
            target = self._definitions[node["$ref"].rpartition("/")[2]]
            node = self._plain(target, path) | {key: value for key, value in node.items() if key != "$ref"}
        if "anyOf" in node and _INT_OR_STRING not in node:
            members = [member for member in node["anyOf"] if member != {"type": "null"}]
            if len(members) != 1:
                raise UnplaceableError(path, "a union has no place in a CustomResourceDefinition: one member each")
            beside = {key: value for key, value in node.items() if key != "anyOf"}
            node = self._plain(members[0], path) | beside
        return node

    def _map(self, node: Schema, out: Schema, path: str) -> None:
        """A map's values become additionalProperties; the form of its keys becomes a validation rule."""
        patterns = list(node.get("patternProperties", {}).items()) or [("", node.get("additionalProperties"))]
        if len(patterns) != 1 or not isinstance(patterns[0][1], dict):
            raise UnplaceableError(path, "an object has fields, or is a map with values of one form")
        pattern, values = patterns[0]
        out["additionalProperties"] = self.schema(values, f"{path}[*]")
        length = node.get("propertyNames", {}).get("maxLength")
        if length is None:
            raise UnplaceableError(path, "the keys of a map need a maximal length")
        rules = [f"k.size() <= {length}"]
        if pattern:
            _refuse_unless_re2(pattern, path)
            rules.append(f"k.matches(r'{pattern}')")
        rule = {"rule": f"self.all(k, {' && '.join(rules)})", "message": key_message(pattern, length)}
        out["x-kubernetes-validations"] = [rule, *out.get("x-kubernetes-validations", [])]


def key_message(pattern: str, length: int) -> str:
    """What the API server answers where a map's key has another form."""
    form = f" and match {pattern}" if pattern else ""
    return f"a key has another form: keys have at most {length} characters{form}"


def _int_or_string(node: Schema) -> Schema:
    kept: Schema = {key: node[key] for key in ("pattern", "maxLength", "minimum", "maximum") if key in node}
    return {_INT_OR_STRING: True, "anyOf": [{"type": "integer"}, {"type": "string"}], **kept}


def _refuse(out: Schema, path: str) -> None:
    """Raise UnplaceableError for what the API server would not take, or could not price rules for."""
    kind = out.get("type")
    bounded = "enum" in out or "x-kubernetes-preserve-unknown-fields" in out
    if kind is None:
        raise UnplaceableError(path, "has no single type")
    if kind == "number":
        raise UnplaceableError(path, "floats have no place in a resource: write a decimal string")
    if kind == "integer" and not bounded and not {"minimum", "maximum"} <= set(out):
        raise UnplaceableError(path, "an integer needs a minimum and a maximum")
    if kind == "string" and not bounded and "maxLength" not in out:
        raise UnplaceableError(path, "a string needs a maximal length, so that rules over it can be priced")
    if kind == "array" and not {"maxItems", "x-kubernetes-list-type"} <= set(out):
        raise UnplaceableError(path, "a list needs a maximal length and x-kubernetes-list-type")
    if "additionalProperties" in out and "maxProperties" not in out:
        raise UnplaceableError(path, "a map needs a maximal size, so that rules over it can be priced")
    if "pattern" in out:
        _refuse_unless_re2(out["pattern"], path)


def _refuse_unless_re2(pattern: str, path: str) -> None:
    """RE2 has no look-around, no back-references; classes such as backslash d differ between engines."""
    bare = re.sub(r"\[\^?.[^\]]*\]", "x", re.sub(r"\\[^A-Za-z0-9]", "x", pattern))
    repetitions = [int(number) for number in re.findall(r"[{,]([0-9]+)", bare)]
    if re.search(r"\\|\(\?|[*+?}]\+", bare) or "'" in pattern or max(repetitions, default=0) > _RE2_REPETITIONS:
        raise UnplaceableError(path, f"the pattern {pattern} means something else, or nothing, to RE2")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return value
