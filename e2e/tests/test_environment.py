"""The maker of virtual environments does what is due, and nothing else; pip and venv themselves are not run here."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "requirements" / "environment.py"
LOCK = b"numpy==2.0 --hash=sha256:00\n"


class Checkout:
    """A checkout in a temporary folder whose commands are noted instead of run."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = importlib.util.spec_from_file_location("environment", SOURCE)
        assert spec is not None
        assert spec.loader is not None
        self.maker: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.maker)
        self.environment = root / ".venv"
        self.commands: list[str] = []
        self.failing = ""
        (root / "pyproject.toml").write_text("[project]\n")
        (root / "lock.txt").write_bytes(LOCK)
        monkeypatch.setattr(self.maker, "ROOT", root)
        monkeypatch.setattr(subprocess, "run", self._note)
        self._monkeypatch = monkeypatch

    def _note(self, command: list[Any], **_keywords: Any) -> subprocess.CompletedProcess[bytes]:
        words = " ".join(map(str, command))
        kind = next(word for word in ("-m venv", "--require-hashes", "-e ") if word in words)
        if kind == self.failing:
            raise subprocess.CalledProcessError(1, command)
        self.commands.append(kind)
        if kind == "-m venv":
            (self.environment / "bin").mkdir(parents=True)
            (self.environment / "bin" / "python").touch()
        return subprocess.CompletedProcess(command, 0)

    def make(self) -> int:
        """`python requirements/environment.py .venv lock.txt`; forgets earlier commands."""
        self.commands.clear()
        self._monkeypatch.setattr(sys, "argv", ["environment.py", ".venv", "lock.txt"])
        code: int = self.maker.main()
        return code


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


EVERYTHING = ["-m venv", "--require-hashes", "-e "]


def test_a_missing_environment_is_made_and_a_right_one_is_left_alone(checkout: Checkout) -> None:
    assert checkout.make() == 0
    assert checkout.commands == EVERYTHING
    assert checkout.make() == 0
    assert checkout.commands == []


def test_another_lock_makes_it_anew_without_what_was_in_it(checkout: Checkout) -> None:
    checkout.make()
    (checkout.environment / "old package").touch()
    (checkout.environment.parent / "lock.txt").write_bytes(LOCK + b"# newer\n")
    checkout.make()
    assert checkout.commands == EVERYTHING
    assert not (checkout.environment / "old package").exists()


def test_another_pyproject_installs_only_the_project_again(checkout: Checkout) -> None:
    checkout.make()
    (checkout.environment.parent / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    checkout.make()
    assert checkout.commands == ["-e "]


def test_an_environment_whose_making_failed_is_made_from_scratch(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.failing = "--require-hashes"
    assert checkout.make() == 1
    assert "error: `" in capsys.readouterr().err
    checkout.failing = ""
    assert checkout.make() == 0
    assert checkout.commands == EVERYTHING


def test_an_environment_that_somebody_made_by_hand_is_not_trusted(checkout: Checkout) -> None:
    (checkout.environment / "bin").mkdir(parents=True)
    (checkout.environment / "bin" / "python").touch()
    checkout.make()
    assert checkout.commands == EVERYTHING


def test_a_moved_checkout_makes_its_environments_again(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.make()
    before = checkout.maker.stamps(checkout.environment, LOCK, None)
    assert all(stamp.exists() for stamp in before)
    elsewhere = checkout.maker.stamps(checkout.environment.with_name(".venv-moved"), LOCK, None)
    assert before[0].name != elsewhere[0].name


def test_an_interpreter_that_was_removed_makes_it_again(checkout: Checkout) -> None:
    checkout.make()
    (checkout.environment / "bin" / "python").unlink()
    checkout.make()
    assert checkout.commands == EVERYTHING


def test_a_missing_lock_is_one_clear_line(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout.environment.parent / "lock.txt").unlink()
    assert checkout.make() == 1
    assert capsys.readouterr().err.count("\n") == 1
