from pathlib import Path

import kubernetes_validate
import pytest
from golden_manifests import GOLDEN, SOURCES, golden_file, manifests_of, rendered

COMMAND = ".venv/bin/python operator/tests/golden_manifests.py"
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_applied_is_what_the_golden_file_says(source: Path) -> None:
    assert golden_file(source).is_file(), f"a new example; write its golden file: {COMMAND}"
    assert rendered(source) == golden_file(source).read_text(), f"if this is meant: {COMMAND}"


def test_no_golden_file_is_left_of_an_example_that_is_gone() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {golden_file(source).name for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_manifest_is_what_the_api_of_old_and_new_releases_takes(source: Path) -> None:
    for manifest in manifests_of(source):
        for version in VERSIONS:
            if "resourceClaimTemplateName" in str(manifest) and version == "1.29":
                continue  # device claims had another form then, and were off
            kubernetes_validate.validate(dict(manifest), version, strict=True)
