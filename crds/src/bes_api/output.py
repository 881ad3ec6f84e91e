"""Writing what a caller asked for: a place that cannot be written is said early, a file is whole or not there."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bes_api.errors import OutputError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def unwritable(place: str, error: OSError) -> OutputError:
    """The one line for a place that cannot be written; it names the mend."""
    mend = "free space or name another folder" if error.errno in FULL else "name another folder"
    return OutputError(f"{place}: cannot be written ({error.strerror or error}); {mend}")


def prepare_folder(option: str, folder: Path) -> None:
    """Make ``folder`` and try to write into it: before long work, which a failure afterwards would cost.

    ``option`` names it in the error. Raises OutputError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise unwritable(f"{option} {folder}", error) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which becomes ``path`` at the end; after any failure neither is there.

    An older ``path`` stays until the new one is complete. Its folder is made. Raises OutputError.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise unwritable(str(path), error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, completely or not at all. Raises OutputError."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
