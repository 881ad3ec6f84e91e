"""Writes what the Helm chart repeats of others, so that each is said once.

The schema of values is the source of values.yaml and of the page's table; the operator's settings are the source of
their part of that schema; crds/ is the source of the chart's resource definition; the template of rights is the source
of the page's table of rights. ``python -m bes_lab.chart`` writes all of it; a test holds it fresh.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
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
    """Without titles, which repeat names, and without `required`: every setting that is left has a default."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _plain(part) for name, part in value.items()} if key == "properties" else _plain(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and key != "required"
    }


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
    rows = [f"| `{path}` | `{json.dumps(default)}` | {text} |\n" for path, default, text in _leaves(schema, "")]
    return "| Value | Default | What it is |\n|---|---|---|\n" + "".join(rows)


def _leaves(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, part in schema["properties"].items():
        path = f"{prefix}{name}"
        if "default" in part:
            if name != "global":
                yield path, part["default"], part["description"]
        else:
            yield from _leaves(part, f"{path}.")


def settings_table(schema: Mapping[str, Any]) -> str:
    """The page's table of the operator's settings."""
    settings = schema["properties"]["settings"]["properties"]
    rows = [
        f"| `settings.{name}` | `{json.dumps(part.get('default'))}` | {_line(part)} |\n"
        for name, part in settings.items()
    ]
    return "| Value | Default | What it is |\n|---|---|---|\n" + "".join(rows)


def _line(part: Mapping[str, Any]) -> str:
    return str(part["description"]).replace("\n", " ")


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
