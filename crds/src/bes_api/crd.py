"""The CustomResourceDefinition of `BestEffortService`, made from the types and the table of rules.

`make resource` writes it as YAML; what lies in the repository is that output, and a test compares them.
"""

import sys
from typing import Any

import yaml

from bes_api.rules import RULES, Rule
from bes_api.service import GROUP, KIND, PLURAL, VERSION, ServiceSpec
from bes_api.service_status import ServiceStatus
from bes_api.structural_schema import Schema, structural_schema

SINGULAR = KIND.lower()
SHORT_NAME = "bes"
CATEGORIES = ("all", "besteffort")
MAX_BYTES = 256 * 1024
"""Above it `kubectl apply` could not keep the last applied state in an annotation."""
DESCRIPTION = (
    "One application: models, tasks, router and policy. Each request is answered by the model whose quality "
    "still arrives in time, as a learned policy decides."
)
COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the whole desired state is there."),
    ("Policy", "string", ".status.policy.active.name", "What decides."),
    ("Performance", "string", ".status.served.performance", "Reward as a share of peak reward."),
    ("In-time", "string", ".status.served.inTime", "Requests answered in time, as a share."),
    ("Age", "date", ".metadata.creationTimestamp", "Time since its creation."),
)


def resource_schema() -> Schema:
    """The structural schema of the whole resource, rules included."""
    status = structural_schema(ServiceStatus, defaults=False)
    status["default"] = {"observedGeneration": -1}  # else kstatus takes a resource that nobody has looked at for ready
    schema: Schema = {
        "description": DESCRIPTION,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": "Version of this form of the resource.", "type": "string"},
            "kind": {"description": f"Always {KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(ServiceSpec),
            "status": status,
        },
    }
    for rule in RULES:
        for path in rule.paths:
            _add(rule, node_at(schema, path))
    return schema


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": [SHORT_NAME],
        "categories": list(CATEGORIES),
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "description": description}
            for name, kind, path, description in COLUMNS
        ],
        "schema": {"openAPIV3Schema": resource_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def as_yaml() -> str:
    """The file that lies in the repository."""
    text = yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return "# Made by `make resource` from bes_api; do not edit.\n" + text


def node_at(schema: Schema, path: str) -> Schema:
    """The schema at a rule's path, for example ``spec.models[*]``."""
    for step in path.split(".") if path else ():
        schema = schema["properties"][step.removesuffix("[*]")]
        if step.endswith("[*]"):
            schema = schema["items"]
    return schema


def _add(rule: Rule, node: Schema) -> None:
    if rule.cel is None:
        return
    rendered = {"rule": rule.cel, "message": rule.message}
    if rule.field is not None:
        rendered["fieldPath"] = f".{rule.field}"
        node_at(node, rule.field)  # a field that is not there is found here rather than by the API server
    node.setdefault("x-kubernetes-validations", []).append(rendered)


class _Dumper(yaml.SafeDumper):
    """Everything in full: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """See PyYAML's representer."""
        return True


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
