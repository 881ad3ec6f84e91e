"""The fixture of tests that need nodes and pods: `from native_cluster import cluster`, marker cluster. Needs root."""

import os
import sys
from collections.abc import Iterator, Mapping

import pytest

from bes_lab.cluster.images import IMAGES, PROMETHEUS, the_builder
from bes_lab.cluster.layout import the_state
from bes_lab.cluster.native import Native, barred, needs_of_this_machine
from bes_lab.cluster.programs import the_programs

GPU = "nvidia.com/gpu"
GPUS = 8


@pytest.fixture(scope="session")
def cluster() -> Iterator[Native]:
    """A cluster of two nodes with GPUs to advertise, for all tests of a run: each takes a namespace of its own."""
    native = Native(the_state(), the_programs(), _say)
    if problems := needs_of_this_machine(the_programs()):
        said = f"no cluster: {'; '.join(problems)}"
        if os.environ.get("CI") and not barred():
            pytest.fail(said)
        _say(said)
        pytest.skip(said)
    if native.running():
        pytest.fail("a cluster is up, which these tests would change: `bes cluster down` first")
    try:
        native.up(2, {GPU: GPUS})
        yield native
    finally:
        native.down()


@pytest.fixture(scope="session")
def images(cluster: Native) -> Mapping[str, str]:
    """The project's images by room (operator, router, engine, training, prometheus), built and held by every node."""
    builder = the_builder()
    for image in IMAGES.values():
        cluster.load(builder.archive(image))
    cluster.load(builder.prometheus())
    return {**{room: image.name for room, image in IMAGES.items()}, "prometheus": PROMETHEUS}


def _say(line: str) -> None:
    sys.stderr.write(f"\n{line}")
