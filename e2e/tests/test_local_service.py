"""`bes local up`: everything starts together, and nothing is ever left behind."""

import argparse
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lab_http import WAIT_SECONDS, complete

from bes_api.router_status import RouterStatus
from bes_lab.errors import StartError, TargetError
from bes_lab.local.children import Children, bes
from bes_lab.local.command import LOCAL

pytestmark = pytest.mark.slow  # every test starts whole processes

PAPER = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.fixture
def small_service(tmp_path: Path) -> Path:
    """The sample on one GPU."""
    file = tmp_path / "service.yaml"
    text = PAPER.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(gpus|replicas): 4", r"\1: 1", text), encoding="utf-8")
    return file


class Up:
    def __init__(self, file: Path, folder: Path) -> None:
        self.logs = folder / "logs"
        self.process = subprocess.Popen(
            bes("local", "up", str(file), "--port", "0", "--logs", str(self.logs)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("curl"):
                break
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def curl(self) -> str:
        return self.said[-1].strip()

    def finish(self) -> tuple[int, str]:
        rest, _ = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, rest


@pytest.fixture
def up(small_service: Path, tmp_path: Path) -> Iterator[Up]:
    running = Up(small_service, tmp_path)
    try:
        yield running
    finally:
        for process in (*running.children, running.process):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=WAIT_SECONDS)
    return not alive


def printed(line: str) -> subprocess.CompletedProcess[str]:
    """What a printed line does."""
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)  # noqa: S602 - it is made for a shell


def test_ctrl_c_ends_everything_and_the_printed_line_works(up: Up) -> None:
    assert len(up.children) == 2, "a GPU and the router"
    assert any("Every engine is emulated" in line for line in up.said)
    port = int(re.search(r":(\d+)/v1", up.curl)[1])  # type: ignore[index]  # the line has a port
    assert complete(port, "lambada", 8, 4).headers["x-bes-model"].startswith("opt-")
    shell = printed(up.curl)
    assert " 200 OK" in shell.stdout.splitlines()[0]
    (status,) = [line.strip() for line in up.said if line.startswith("  curl")]
    shell = printed(status)
    assert sum(task.requests for task in RouterStatus.model_validate_json(shell.stdout).tasks) == 2
    assert stat.S_IMODE((up.logs / "admin-token").stat().st_mode) == 0o600
    os.kill(up.process.pid, signal.SIGINT)
    code, _ = up.finish()
    assert code == 0
    assert all_gone(up.children)


def test_the_death_of_a_child_ends_everything_and_says_why(up: Up) -> None:
    (gpu,) = [child for child in up.children if "engine" in child.cmdline()]
    gpu.send_signal(signal.SIGKILL)
    code, said = up.finish()
    assert code == 4
    assert "gpu-0 was killed by SIGKILL" in said
    assert "opt-125m replica 0" in said, "the tail of its log"
    assert all_gone(up.children)


def test_with_json_the_first_line_is_a_document_and_everything_else_goes_to_stderr(
    small_service: Path, tmp_path: Path
) -> None:
    command = bes("local", "up", str(small_service), "--port", "0", "--logs", str(tmp_path / "logs"), "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            shell = printed(said["curl"])
        finally:
            process.terminate()
            rest, explained = process.communicate(timeout=WAIT_SECONDS)
    assert " 200 OK" in shell.stdout.splitlines()[0]
    assert said["urls"][0] in said["curl"]
    assert said["logs"] == str(tmp_path / "logs")
    assert (rest, process.returncode) == ("", 0)
    assert explained.startswith("starting 1 emulated GPU, then the router")
    assert "Every engine is emulated" in explained


def test_nothing_survives_a_parent_that_is_killed(up: Up) -> None:
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait(WAIT_SECONDS)
    assert all_gone(up.children)


def test_sigterm_ends_everything(up: Up) -> None:
    os.kill(up.process.pid, signal.SIGTERM)
    code, _ = up.finish()
    assert code == 0
    assert all_gone(up.children)


def test_a_port_that_is_taken_is_one_clear_error_and_the_logs_that_it_names_are_left(
    small_service: Path, up: Up, tmp_path: Path
) -> None:
    port = re.search(r":(\d+)/v1", up.curl)[1]  # type: ignore[index]  # the line has a port
    (tmp_path / "temporary").mkdir()
    second = subprocess.run(
        bes("local", "up", str(small_service), "--port", port),
        capture_output=True,
        text=True,
        timeout=2 * WAIT_SECONDS,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    (kept,) = (tmp_path / "temporary").iterdir()
    assert str(kept) in second.stderr
    assert second.returncode == 4
    assert "router ended with exit code" in second.stderr
    assert not second.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("NoSuch", "expected a rule (DeadlineAware, Priced, Threshold) or a model (opt-125m, opt-1.3b, opt-6.7b)"),
        ("Priced/Nowhere", "expected one of LeastLoaded, LeastFinish, Bunched"),
        (
            "build/not-trained/policy",
            "the folder of an artifact, or an installed policy's name; there is no such folder",
        ),
    ],
)
def test_an_unknown_policy_is_one_line(small_service: Path, policy: str, says: str) -> None:
    ended = subprocess.run(
        bes("local", "up", str(small_service), "--policy", policy), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--port", "99999", "expected 0 to 65535"),
        ("--logs", "/dev/null", "name another folder"),
        ("--policy", "x" * 5000, "expected a rule"),
    ],
)
def test_an_argument_that_cannot_be_used_is_one_line(small_service: Path, flag: str, value: str, says: str) -> None:
    parser = argparse.ArgumentParser()
    LOCAL.configure(parser)
    with pytest.raises(TargetError, match=says):
        LOCAL.run(parser.parse_args(["up", str(small_service), flag, value]))


def test_a_child_that_never_gets_ready_is_named_with_its_log(tmp_path: Path) -> None:
    with Children() as children:
        children.start("slow", ("sh", "-c", "echo warming; exec sleep 600"), tmp_path / "slow.log")
        with pytest.raises(StartError, match=r"gave up after 0.3 s of waiting until it was ready[\s\S]*warming"):
            children.wait_until(lambda: False, "it was ready", 0.3)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bes_lab.local.children.TERM_SECONDS", 0.3)
    with Children() as children:
        program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
        child = children.start("deaf", ("python3", "-c", program), tmp_path / "log")
        children.wait_until(lambda: "deaf" in child.log.read_text(), "deaf", WAIT_SECONDS)
    assert child.process.returncode == -signal.SIGKILL
