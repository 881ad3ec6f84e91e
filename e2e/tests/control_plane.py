"""The fixture of tests that need a real API server: `from control_plane import api_server`, marker control_plane."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bes_lab.cluster.control_plane import NEEDED, ControlPlane, control_plane
from bes_lab.cluster.programs import the_programs


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for all tests of a run: each test takes a namespace of its own, and mends what it kills."""
    programs = the_programs()
    missing = programs.missing(NEEDED)
    if missing:
        said = f"no control plane: {', '.join(missing)} missing; run `make kubernetes`"
        if os.environ.get("CI"):
            pytest.fail(said)
        sys.stderr.write(f"\n{said}\n")
        pytest.skip(said)
    with control_plane(folder(tmp_path_factory), programs) as running:
        yield running


def folder(factory: pytest.TempPathFactory) -> Path:
    """Of this run alone."""
    return factory.mktemp("control-plane")
