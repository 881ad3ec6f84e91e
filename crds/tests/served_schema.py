"""What the API server does with a schema, as far as tests repeat it: pruning and defaulting."""

from typing import Any

from bes_api.structural_schema import Schema


def pruned(value: Any, schema: Schema) -> Any:
    """``value`` as the API server stores it: without whatever the structural schema does not know."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [pruned(item, schema["items"]) for item in value]
    if "additionalProperties" in schema:
        return {key: pruned(child, schema["additionalProperties"]) for key, child in value.items()}
    known = schema.get("properties", {})
    return {key: pruned(child, known[key]) for key, child in value.items() if key in known}


def defaulted(value: Any, schema: Schema) -> Any:
    """``value`` with what the API server fills in, from the top down."""
    if isinstance(value, list):
        return [defaulted(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    known = schema["properties"]
    missing = {name: child["default"] for name, child in known.items() if "default" in child and name not in value}
    return {key: defaulted(child, known[key]) for key, child in (value | missing).items()}
