"""The command `bes`: what it lists, what it imports, and how it ends."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bes_api import command
from bes_api.command import LISTINGS, main
from bes_api.errors import DocumentError, Problem

MODULE = """
import argparse
import errno
from bes_api.command import Command
from bes_api.errors import DocumentError, Problem

def configure(parser):
    parser.add_argument("--fail")

def run(args):
    if args.fail == "mendable":
        raise DocumentError("x.yaml", [Problem("spec.a", "is wrong: mend it", 3)])
    if args.fail == "interrupt":
        raise KeyboardInterrupt
    if args.fail == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "curves.png")
    if args.fail == "fault":
        raise OSError(errno.EBADF, "Bad file descriptor")
    return 7

COMMAND = Command("sample", "a sample", "lab", configure, run)
NO_COMMAND = 1
"""


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "sample_command.py").write_text(MODULE)
    (tmp_path / "needs_much.py").write_text("import package_that_nobody_installs\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = command.ENTRY_POINT_GROUP
    points = [
        EntryPoint("sample", "sample_command:COMMAND", group),
        EntryPoint("train", "needs_much:TRAIN", group),
        EntryPoint("broken", "sample_command:NO_COMMAND", group),
    ]
    monkeypatch.setattr(command, "entry_points", lambda **_: points)
    yield
    sys.modules.pop("sample_command", None)


pytestmark = pytest.mark.usefixtures("_installed")


def test_help_lists_every_subcommand_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert LISTINGS["train"].summary in shown
    assert "sample" in shown
    assert "sample_command" not in sys.modules


def test_the_exit_code_is_the_subcommands() -> None:
    assert main(["sample"]) == 7


def test_what_the_caller_can_mend_ends_with_2_and_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--fail", "mendable"]) == 2
    assert capsys.readouterr().err == "x.yaml:3: spec.a: is wrong: mend it\n"


def test_ctrl_c_ends_with_130() -> None:
    assert main(["sample", "--fail", "interrupt"]) == 130


def test_a_full_disk_ends_with_2_and_names_the_file_and_the_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--fail", "full"]) == 2
    assert capsys.readouterr().err == (
        "curves.png: cannot be written (No space left on device); free space or name another folder\n"
    )


def test_what_nobody_can_mend_stays_a_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        main(["sample", "--fail", "fault"])


def test_a_missing_package_ends_with_3_and_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 3
    shown = capsys.readouterr().err
    assert "'package_that_nobody_installs'" in shown
    assert "install best-effort-serving[training]" in shown


def test_an_entry_point_that_is_no_command_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="broken = sample_command:NO_COMMAND"):
        main(["broken"])


@pytest.mark.parametrize("arguments", [[], ["none"], ["sample", "--none"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_of_the_installed_command_is_quick_and_light() -> None:
    script = (
        "import sys; from bes_api.command import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'torch', 'uvloop', 'matplotlib', 'pydantic', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert set(LISTINGS) <= set(shown.stdout.split())


def test_a_problem_without_a_line_names_file_and_field_only() -> None:
    assert str(DocumentError("x.yaml", [Problem("spec", "m")])) == "x.yaml: spec: m"
    assert str(DocumentError("x.yaml", [Problem("", "m")])) == "x.yaml: m"
