"""The sample on one GPU, run as `bes local up` runs it."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab_http import WAIT_SECONDS

from bes_lab.local.children import bes

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


def pinnable_sample() -> str:
    """The sample with one GPU and one replica of each model, where clients may pin a model."""
    text = re.sub(r"(gpus|replicas): 4", r"\1: 1", PAPER.read_text(encoding="utf-8"))
    return text.replace("\n  router:\n", "\n  router:\n    clients: {pinModel: true}\n")


@contextmanager
def run_locally(text: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What `bes local up --json` says of a service once it is ready; it is ended by SIGTERM."""
    file = folder / "service.yaml"
    file.write_text(text, encoding="utf-8")
    command = bes("local", "up", str(file), "--port", "0", "--logs", str(folder / "logs"), "--json")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_SECONDS)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
