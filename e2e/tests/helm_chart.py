"""The chart as Helm renders it, for the tests of its meaning."""

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bes_lab.cluster.programs import the_programs

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "best-effort-serving"
NAMESPACE = "serving"
RELEASE = "best-effort-serving"
KUBERNETES = "1.33.0"
Object = dict[str, Any]

EVERYTHING: Mapping[str, Any] = {
    "prometheus": {"enabled": True},
    "monitoring": {"serviceMonitor": True, "podMonitor": True, "prometheusRule": True, "dashboard": True},
    "networkPolicy": {"enabled": True},
}
NAMESPACED: Mapping[str, Any] = {**EVERYTHING, "watchNamespaces": ["team-a", "team-b"]}
DEFAULTS: Mapping[str, Any] = {}
VALUE_SETS = {"defaults": DEFAULTS, "everything": EVERYTHING, "namespaced": NAMESPACED}


def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm; the test is skipped where there is none."""
    program = the_programs().find("helm") or shutil.which("helm")
    if program is None:
        pytest.skip("there is no helm: run `make kubernetes`, or put one on the PATH")
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, check=False)


def template(chart: Path, release: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `helm template`. A helm that was built by itself does not know which Kubernetes it is for."""
    return helm("template", release, str(chart), "--kube-version", KUBERNETES, *arguments, stdin=stdin)


def render(values: Mapping[str, Any] = DEFAULTS, namespace: str = NAMESPACE, release: str = RELEASE) -> list[Object]:
    """Every object of the chart with these values, tests among them."""
    return json.loads(_rendered(json.dumps(values), namespace, release))  # type: ignore[no-any-return]


@functools.cache
def _rendered(values: str, namespace: str, release: str) -> str:
    said = template(CHART, release, "--namespace", namespace, "--values", "-", stdin=values)
    assert said.returncode == 0, said.stderr
    return json.dumps([item for item in yaml.safe_load_all(said.stdout) if item], default=str)


def refusal(values: Mapping[str, Any]) -> str:
    """What helm says of values that it must refuse."""
    said = template(CHART, RELEASE, "--values", "-", stdin=json.dumps(values))
    assert said.returncode != 0, "the values were accepted"
    return said.stderr


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [item for item in objects if item["kind"] == kind]


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The one of that kind and name."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Name, labels and spec of every pod that the objects make."""
    for item in objects:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["metadata"]["labels"], item["spec"]
        elif item["kind"] in {"Deployment", "Job"}:
            template = item["spec"]["template"]
            yield item["metadata"]["name"], template["metadata"]["labels"], template["spec"]
