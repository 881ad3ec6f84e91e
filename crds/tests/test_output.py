"""Files are whole or not there, and a place that cannot be written is said before the work, in one line."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bes_api.errors import OutputError
from bes_api.output import prepare_folder, whole_file, write_whole

LIMIT = 4096
"""Bytes that a process of these tests may write into one file: the next write fails as on a full disk."""


def on_a_full_disk(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )


def test_a_file_is_written_whole_and_its_folder_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.json", "{}")
    assert (tmp_path / "new" / "a.json").read_text() == "{}"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_older_file_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("older")
    ended = on_a_full_disk(
        f"from pathlib import Path; from bes_api.output import write_whole; "
        f"write_whole(Path({str(tmp_path / 'a.json')!r}), 'x' * {2 * LIMIT})"
    )
    assert "a.json: cannot be written" in ended.stderr
    assert "free space or name another folder" in ended.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "older"}


def test_whatever_goes_wrong_while_writing_nothing_is_left(tmp_path: Path) -> None:
    def broken() -> None:
        with whole_file(tmp_path / "a.png") as part:
            part.write_bytes(b"half")
            raise ValueError("drawing failed")

    with pytest.raises(ValueError, match="drawing failed"):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_folder("--out", tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300])
def test_a_folder_that_cannot_be_written_is_one_line_with_its_option(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(OutputError, match=r"--out .*: cannot be written .*; name another folder"):
        prepare_folder("--out", tmp_path / place)
