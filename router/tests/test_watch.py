"""Watched folders: each whole new state is told once, half-written ones never, and nothing is read for nothing."""

import shutil
import threading
from pathlib import Path

import pytest
from kubelet import mount

from bes_api.config_map import data_digest
from bes_router import watch
from bes_router.watch import Watched

LIMIT = 1000


def test_the_first_look_tells_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    found = Watched(tmp_path, LIMIT).first()
    assert (dict(found.files), found.digest, found.problem) == ({"a": b"1"}, data_digest({"a": b"1"}), "")


def test_an_empty_folder_has_no_digest_and_is_no_problem(tmp_path: Path) -> None:
    found = Watched(tmp_path, LIMIT).first()
    assert (found.digest, found.problem) == (None, "")


def test_a_new_state_of_a_mounted_folder_is_told_at_once_and_once(tmp_path: Path) -> None:
    mount(tmp_path, {"a": b"1"})
    watched = Watched(tmp_path, LIMIT)
    watched.first()
    assert watched.look() is None
    mount(tmp_path, {"a": b"2"})
    found = watched.look()
    assert found is not None
    assert found.files == {"a": b"2"}
    assert watched.look() is None


def test_a_plain_folder_is_told_when_two_looks_met_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    watched = Watched(tmp_path, LIMIT)
    watched.first()
    assert watched.look() is None
    for content in (b"2", b"22", b"222"):
        (tmp_path / "a").write_bytes(content)
        assert watched.look() is None
        assert watched.changing
    found = watched.look()
    assert found is not None
    assert found.files == {"a": b"222"}
    assert not watched.changing


def test_what_came_and_went_between_two_looks_is_never_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    watched = Watched(tmp_path, LIMIT)
    watched.first()
    (tmp_path / "a").write_bytes(b"half")
    assert watched.look() is None
    (tmp_path / "a").write_bytes(b"1")
    assert [watched.look() for _ in range(3)] == [None] * 3


def test_a_folder_that_goes_is_a_problem_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    mount(folder, {"a": b"1"})
    watched = Watched(folder, LIMIT)
    watched.first()
    shutil.rmtree(folder)
    watched.look()
    gone = watched.look()
    assert gone is not None
    assert "No such file" in gone.problem
    mount(folder, {"a": b"1"})
    back = watched.look()
    assert back is not None
    assert back.files == {"a": b"1"}


def test_nothing_is_read_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"1")
    watched = Watched(tmp_path, LIMIT)
    watched.first()
    watched.look()

    def read(path: Path, limit: int) -> dict[str, bytes]:
        raise AssertionError("read without a change")

    monkeypatch.setattr(watch, "read_files", read)
    assert [watched.look() for _ in range(3)] == [None] * 3


def test_a_folder_exchanged_while_it_is_read_is_one_version_or_the_other(tmp_path: Path) -> None:
    versions = [{name: bytes([number]) * 100 for name in "abc"} for number in range(2)]
    mount(tmp_path, versions[0])
    watched = Watched(tmp_path, LIMIT)
    watched.first()
    stop = threading.Event()

    def exchange() -> None:
        number = 0
        while not stop.is_set():
            mount(tmp_path, versions[number % 2])
            number += 1

    writer = threading.Thread(target=exchange)
    writer.start()
    told = 0
    try:
        while told < 20:
            found = watched.look()
            if found is not None and not found.problem:
                assert found.files in versions
                told += 1
    finally:
        stop.set()
        writer.join()
