"""ConfigMaps as files: a digest that only names and contents decide, and folders read whole, whatever lies in them."""

import hashlib
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubelet import mount

from bes_api.config_map import data_digest, is_mounted, read_files, stamp_of
from bes_api.errors import ConfigurationError

LIMIT = 1000
DATA = st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.binary(max_size=30))


@given(DATA, st.randoms())
def test_the_digest_does_not_depend_on_the_order_of_files(data: dict[str, bytes], random: Random) -> None:
    names = list(data)
    random.shuffle(names)
    assert data_digest({name: data[name] for name in names}) == data_digest(data)


@given(DATA, DATA)
def test_other_names_or_contents_have_another_digest(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (data_digest(one) == data_digest(other)) == (one == other)


def test_bytes_cannot_move_between_a_name_and_its_content() -> None:
    assert data_digest({"ab": b"c"}) != data_digest({"a": b"bc"})
    assert data_digest({"a": b"", "b": b""}) != data_digest({"a": b"b"})


def test_the_digest_is_what_its_documentation_says() -> None:
    expected = hashlib.sha256()
    for part in (b"a", b"1", "é".encode(), b"22"):
        expected.update(len(part).to_bytes(8, "big") + part)
    assert data_digest({"é": b"22", "a": b"1"}) == "sha256:" + expected.hexdigest()


def test_a_mounted_folder_is_read_as_its_newest_version(tmp_path: Path) -> None:
    mount(tmp_path, {"a": b"old", "b": b"old"})
    assert is_mounted(tmp_path)
    before = stamp_of(tmp_path)
    mount(tmp_path, {"a": b"new"})
    (tmp_path / "b").symlink_to("..data/b")  # kubelet removes the links of files that went only after the exchange
    assert read_files(tmp_path, LIMIT) == {"a": b"new"}
    assert stamp_of(tmp_path) != before


def test_a_plain_folder_is_its_files_without_subfolders(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    assert not is_mounted(tmp_path)
    assert read_files(tmp_path, LIMIT) == {"a": b"1"}
    assert read_files(tmp_path / "a", LIMIT) == {"a": b"1"}


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert read_files(tmp_path, LIMIT) == {}


def test_files_beyond_the_limit_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(LIMIT - 1))
    (tmp_path / "b").write_bytes(bytes(1))
    assert len(read_files(tmp_path, LIMIT)) == 2
    (tmp_path / "b").write_bytes(bytes(2))
    with pytest.raises(ConfigurationError, match="larger than 1000 bytes"):
        read_files(tmp_path, LIMIT)


def test_a_pipe_does_not_stop_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe is not an ordinary file"):
        read_files(tmp_path, LIMIT)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: cannot be read: No such file"):
        read_files(tmp_path / "nowhere", LIMIT)
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(ConfigurationError, match="No such file"):
        read_files(tmp_path, LIMIT)


@pytest.mark.parametrize("change", ["content", "name", "gone", "more"])
def test_any_change_of_a_folder_has_another_stamp(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_text("1")
    before = stamp_of(tmp_path)
    assert stamp_of(tmp_path) == before
    match change:
        case "content":
            os.utime(tmp_path / "a", ns=(0, 0))  # the clock of the file system may not have moved on
            (tmp_path / "a").write_text("2")
        case "name":
            (tmp_path / "a").rename(tmp_path / "b")
        case "gone":
            (tmp_path / "a").unlink()
        case "more":
            (tmp_path / "b").write_text("")
    assert stamp_of(tmp_path) != before
