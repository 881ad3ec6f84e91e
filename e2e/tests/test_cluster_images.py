"""The project's images as `make images` builds them: each holds what the arrows allow, and no more."""

import os
import shutil
import sys

import pytest

from bes_lab.cluster.images import IMAGES, Builder, the_builder
from bes_lab.cluster.programs import the_programs

pytestmark = pytest.mark.cluster
FORBIDDEN = {
    "operator": ("bes_router", "bes_training", "bes_lab", "torch", "numba", "numpy"),
    "router": ("bes_operator", "bes_training", "bes_lab", "torch", "numba", "kopf", "kubernetes", "rich"),
    "engine": ("bes_operator", "bes_router.relay", "bes_lab.local", "bes_training.learning", "torch", "numba", "kopf"),
    "training": ("bes_operator", "bes_lab", "kopf", "kubernetes"),
}
ENTRIES = {
    "operator": "bes_operator.__main__",
    "router": "bes_router.__main__",
    "engine": "bes_lab.engine.__main__",
    "training": "bes_training.__main__",
}


@pytest.fixture(scope="module")
def builder() -> Builder:
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name, path=the_programs().path) is None]
    if os.geteuid() != 0 or missing:
        said = f"no images: they need root and {', '.join(missing) or 'nothing else'}; `make cluster-packages`"
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(said)
        sys.stderr.write(f"\n{said}\n")
        pytest.skip(said)
    return the_builder()


@pytest.mark.parametrize("room", FORBIDDEN)
def test_what_an_image_may_not_hold_cannot_be_imported_in_it_and_what_it_runs_can(builder: Builder, room: str) -> None:
    builder.archive(IMAGES[room])
    assert builder.runs(IMAGES[room], f"import {ENTRIES[room]}") == ""
    # Found by looking, not by importing: a forbidden module that is there but fails must not pass.
    looking = "\n".join(
        [
            "import importlib.util, sys",
            "def there(name):",
            "    try: return importlib.util.find_spec(name) is not None",
            "    except ModuleNotFoundError: return False",
            f"sys.exit(' '.join(name for name in {FORBIDDEN[room]!r} if there(name)) or 0)",
        ]
    )
    assert builder.runs(IMAGES[room], looking) == ""


def test_the_training_image_brings_torch_and_numba_that_work_together(builder: Builder) -> None:
    builder.archive(IMAGES["training"])
    working = (
        "import torch, numba, numpy; assert float(torch.from_numpy(numpy.ones(3)).sum()) == 3; print(torch.__version__)"
    )
    assert builder.runs(IMAGES["training"], working) == ""
