"""Golden files of everything that the operator applies for the examples. Write them anew by running this file:

.venv/bin/python operator/tests/golden_manifests.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from desired_samples import DATA, ROOT, request_for

from bes_operator.desired.objects import desired_objects
from bes_operator.manifest import Manifest

GOLDEN = Path(__file__).parent / "golden"
SOURCES = sorted(
    path
    for folder in (DATA, ROOT / "examples", ROOT / "examples" / "kubernetes")
    for path in folder.glob("*.yaml")
    if "kind: BestEffortService" in path.read_text()
)


class _Written(yaml.SafeDumper):
    """Long texts as blocks, so that a change inside a ConfigMap is one line of a difference."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as the dumper calls it
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Written.add_representer(str, _text)


def golden_file(source: Path) -> Path:
    folder = "" if source.parent in {DATA, ROOT / "examples"} else f"{source.parent.name}-"
    return GOLDEN / f"{folder}{source.stem}.yaml"


def manifests_of(source: Path) -> tuple[Manifest, ...]:
    return desired_objects(request_for(source)).manifests


def rendered(source: Path) -> str:
    return "---\n".join(_documents(source))


def _documents(source: Path) -> Iterator[str]:
    for manifest in manifests_of(source):
        yield yaml.dump(dict(manifest), Dumper=_Written, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    for old in GOLDEN.glob("*.yaml"):
        old.unlink()
    for each in SOURCES:
        golden_file(each).write_text(rendered(each))
