"""A training on disk: one file, replaced at once, from which the same training goes on to the same weights."""

import json
import signal
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bes_api.command import Terminated
from bes_api.errors import BestEffortError

Array = NDArray[Any]
FACTS = "facts"


class CheckpointError(BestEffortError):
    """A checkpoint that cannot be read or belongs to another training."""


@dataclass(frozen=True)
class Checkpoint:
    """``identity`` says which training it is, ``facts`` its scalars as JSON values, ``arrays`` everything else."""

    identity: str
    facts: dict[str, Any]
    arrays: list[Array]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside ``path``, then replace it: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"identity": checkpoint.identity, "facts": checkpoint.facts})
    named: dict[str, Any] = {f"{index:04d}": array for index, array in enumerate(checkpoint.arrays)}
    named[FACTS] = np.frombuffer(text.encode(), np.uint8)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **named)
    part.replace(path)


def read_checkpoint(path: Path, identity: str) -> Checkpoint:
    """Read what `write_checkpoint` wrote. Raises CheckpointError if it is broken or of another training."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            head = json.loads(stored[FACTS].tobytes())
            names = sorted(name for name in stored.files if name != FACTS)
            checkpoint = Checkpoint(str(head["identity"]), dict(head["facts"]), [stored[name] for name in names])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is no readable checkpoint ({error}); remove it to train anew") from error
    if checkpoint.identity != identity:
        raise CheckpointError(
            f"{path}: belongs to another training (scenario, settings or base rate differ); remove it to train anew"
        )
    return checkpoint


def fill(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Copy stored arrays into those of a training."""
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


@contextmanager
def interrupt_held() -> Iterator[list[KeyboardInterrupt]]:
    """Ctrl-C and SIGTERM only fill the list that is given, so that work can end where its state is whole.

    Outside the main thread, where Python delivers no signal, the list stays empty.
    """
    asked: list[KeyboardInterrupt] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def hold(number: int, _frame: FrameType | None) -> None:
        asked.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
