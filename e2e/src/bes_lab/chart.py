"""Writes what the Helm chart repeats of others, so that each is said once.

The schema of values is the source of values.yaml and of the page's table; the operator's settings are the source of
their part of that schema; crds/ is the source of the chart's resource definition; the template of rights is the source
of the page's table of rights. ``python -m bes_lab.chart`` writes all of it; a test holds it fresh.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bes_api.output import write_whole
from bes_operator.settings import OperatorSettings

CHART = Path("charts/best-effort-serving")
PAGE = Path("docs/install.md")
CRD = Path("crds/besteffortservices.yaml")
CRD_COPY = CHART / "files" / CRD.name
SCHEMA = CHART / "values.schema.json"
VALUES = CHART / "values.yaml"
RIGHTS = CHART / "templates" / "_rights.tpl"

SAID_BY_CHART = frozenset(
    {
        "namespace",
        "watch_namespaces",
        "images",
        "router_role",
        "training_role",
        "default_prometheus_url",
        "default_prometheus_scrape_seconds",
        "prometheus_origins",
        "health_host",
        "health_port",
        "kubeconfig",
    }
)
"""Settings that follow from other values of the chart, or from its running in a pod."""
LEADERSHIP_SAID_BY_CHART = frozenset({"lease", "identity"})
MOST_MEMBERS = 8
"""Of a map, in a cell of a table; one with more has a table of its own."""


def settings_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """Schema of the value ``settings``, and the definitions it refers to."""
    schema = OperatorSettings.model_json_schema()
    definitions = {name: part for name, part in schema["$defs"].items() if name != "Images"}
    _leave_out(definitions["Leadership"], LEADERSHIP_SAID_BY_CHART)
    _leave_out(schema, SAID_BY_CHART)
    for name in LEADERSHIP_SAID_BY_CHART:  # an identity is new with each start
        del schema["properties"]["leadership"]["default"][name]
    schema = {key: schema[key] for key in ("type", "additionalProperties", "properties")}
    schema["description"] = "The operator's further settings by their own names."
    schema["default"] = {}
    return _plain(schema), _plain(definitions)


def _leave_out(schema: dict[str, Any], names: frozenset[str]) -> None:
    if missing := names - schema["properties"].keys():
        raise LookupError(f"the operator has no settings {', '.join(sorted(missing))}: adapt {__name__}")
    schema["properties"] = {name: part for name, part in schema["properties"].items() if name not in names}


def _plain(node: Any) -> Any:
    """Without titles, which repeat names, and without `required`: every setting that is left has a default.

    Members of a default that are null are left out too: nothing is stated, as in Kubernetes.
    """
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _plain_member(key, value) for key, value in node.items() if not _is_noise(key, value)}


def _is_noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or key == "required" or key.startswith("x-kubernetes-")


def _plain_member(key: str, value: Any) -> Any:
    if key == "default" and isinstance(value, dict):
        return {name: stated for name, stated in value.items() if stated is not None}
    return {name: _plain(part) for name, part in value.items()} if key == "properties" else _plain(value)


def with_settings(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of values with the operator's part written anew."""
    settings, definitions = settings_schema()
    own = {name: part for name, part in schema["$defs"].items() if not name[0].isupper()}
    properties = {**schema["properties"], "settings": settings}
    return {**schema, "properties": properties, "$defs": {**own, **definitions}}


def values_text(schema: Mapping[str, Any]) -> str:
    """values.yaml: every value's default with its description above it."""
    head = "# Written by `python -m bes_lab.chart` from values.schema.json; change descriptions and defaults there.\n"
    return head + "".join(_values(schema["properties"], ""))


def _values(properties: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, part in properties.items():
        if name == "global":
            continue
        yield f"\n{indent}# {part['description']}\n" if not indent else f"{indent}# {part['description']}\n"
        if "default" in part:
            yield f"{indent}{name}: {json.dumps(part['default'])}\n"
        else:
            yield f"{indent}{name}:\n"
            yield from _values(part["properties"], indent + "  ")


def values_table(schema: Mapping[str, Any]) -> str:
    """The page's table of values."""
    return _table(_leaves(schema, ""), schema["$defs"])


def _leaves(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in schema["properties"].items():
        path = f"{prefix}{name}"
        if "default" in part:
            if name != "global":
                yield path, part
        else:
            yield from _leaves(part, f"{path}.")


def settings_table(schema: Mapping[str, Any]) -> str:
    """The page's table of the operator's settings."""
    settings = schema["properties"]["settings"]["properties"]
    return _table(((f"settings.{name}", part) for name, part in settings.items()), schema["$defs"])


def _table(rows: Iterable[tuple[str, Mapping[str, Any]]], definitions: Mapping[str, Any]) -> str:
    lines = (
        f"| `{path}` | {allowed(part, definitions)} | `{json.dumps(part['default'])}` | {_line(part)} |\n"
        for path, part in rows
    )
    return "| Value | Allowed | Default | What it is |\n|---|---|---|---|\n" + "".join(lines)


def _line(part: Mapping[str, Any]) -> str:
    return str(part["description"]).replace("\n", " ")


def allowed(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value may be, for a page: words where few are known, members of a map, the range of a number."""
    if "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    if "anyOf" in part:
        return " or ".join(allowed(each, definitions) for each in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    kind = part["type"]
    if isinstance(kind, list):
        return " or ".join(allowed({**part, "type": each}, definitions) for each in kind)
    if kind in {"number", "integer"}:
        return f"{'number' if kind == 'number' else 'whole number'} {_range(part)}".rstrip()
    if kind == "object" and 0 < len(part.get("properties", ())) <= MOST_MEMBERS:
        return "map of " + ", ".join(f"`{name}`" for name in part["properties"])
    words = {"array": "list", "boolean": "`true`, `false`", "null": "`null`", "object": "map", "string": "text"}
    return words[kind]


def _range(part: Mapping[str, Any]) -> str:
    if "exclusiveMinimum" in part:
        return f"above {part['exclusiveMinimum']}"
    if "minimum" in part and "maximum" in part:
        return f"{part['minimum']}..{part['maximum']}"
    return f"from {part['minimum']}" if "minimum" in part else ""


def rights_table(template: str) -> str:
    """The page's table of rights, from the operator's rules and the comments above them."""
    begin = template.index('{{- define "bes.operatorRules" -}}')
    rules = template[begin : template.index("{{- end }}", begin)]
    parts = re.findall(r"((?:^#.*\n)+)((?:^[- ].*\n)+)", rules, flags=re.MULTILINE)
    rows = [_right(re.sub(r"\n?# ?", " ", reason).strip(), rule) for reason, rule in parts]
    return "| What | Verbs | Why |\n|---|---|---|\n" + "".join(rows)


def _right(reason: str, rule: str) -> str:
    parsed = yaml.safe_load(re.sub(r"{{.*?}}", "ROLE", rule))[0]
    group = parsed["apiGroups"][0] or "core"
    return f"| {', '.join(parsed['resources'])} ({group}) | {', '.join(parsed['verbs'])} | {reason} |\n"


def with_place(page: str, name: str, content: str) -> str:
    """``page`` with what stands between the marks of ``name`` replaced."""
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", flags=re.DOTALL)
    if not place.search(page):
        raise LookupError(f"{PAGE} has no place <!-- {name} -->")
    return place.sub(lambda found: found[1] + content + found[2], page)


def fresh(root: Path) -> dict[Path, str]:
    """Every generated file below ``root`` as it should be."""
    schema = with_settings(json.loads((root / SCHEMA).read_text(encoding="utf-8")))
    page = (root / PAGE).read_text(encoding="utf-8")
    page = with_place(page, "values", values_table(schema))
    page = with_place(page, "settings", settings_table(schema))
    page = with_place(page, "rights", rights_table((root / RIGHTS).read_text(encoding="utf-8")))
    return {
        SCHEMA: json.dumps(schema, indent=2) + "\n",
        VALUES: values_text(schema),
        PAGE: page,
        CRD_COPY: (root / CRD).read_text(encoding="utf-8"),
    }


def stale(root: Path) -> list[Path]:
    """Generated files that are not as they should be."""
    return [
        path
        for path, text in fresh(root).items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is stale below a root."""
    parser = argparse.ArgumentParser(prog="bes_lab.chart", description="Write what the Helm chart repeats of others.")
    parser.add_argument("--root", type=Path, default=Path())
    root = parser.parse_args(arguments).root
    texts = fresh(root)
    for path in stale(root):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(root / path, texts[path])
        sys.stderr.write(f"{path}: rewritten\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
