"""Ctrl-C and SIGTERM in every long command: a clear exit code, a line, and nothing left running or half written.

And a training whose disk is full, as far as a test can make one: files may not grow beyond a limit (EFBIG, which the
system gives where it would give ENOSPC on a full disk).
"""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from lab_scenarios import scenario

from bes_api.handover import dump_document
from bes_api.router_config import RouterConfig, StaticPolicy
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes

ROOT = Path(__file__).parents[2]
PAPER = str(ROOT / "examples" / "opt-paper.yaml")
BEGIN_SECONDS = 300.0
END_SECONDS = 60.0
"""Each of these commands has far more left to do than that, when it is interrupted."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an emulated engine, for what asks one."""
    folder = tmp_path_factory.mktemp("engine")
    dump_document(scenario(), folder / "scenario.json")
    addresses = folder / "addresses.json"
    with Children() as children:
        command = bes("engine", str(folder / "scenario.json"), "--addresses", str(addresses))
        children.start("gpu-0", command, folder / "gpu-0.log")
        children.wait_until(addresses.exists, "ready", BEGIN_SECONDS)
        yield f"http://127.0.0.1:{EngineAddresses.read(addresses).engines[0].port}"


def _heed_ctrl_c() -> None:
    """Whoever runs the tests in the background may have SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A command whose output goes to a file; what it starts is looked at before it is interrupted."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        self.log = folder / "said"
        temporary = folder / "temporary"
        temporary.mkdir()
        self.temporary = temporary
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                bes(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "TMPDIR": str(temporary)},
                process_group=0,
                preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - nothing else is done there
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, begun: Callable[[], bool]) -> None:
        limit = time.monotonic() + BEGIN_SECONDS
        while not begun():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < limit, self.said
            time.sleep(0.02)

    def end(self, number: int) -> tuple[int, list[psutil.Process]]:
        """The exit code, and children that are left."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(END_SECONDS)
        return code, psutil.wait_procs(children, timeout=END_SECONDS)[1]


def command_of(name: str, folder: Path, engine: str) -> tuple[tuple[str, ...], str, tuple[int, int]]:
    """Arguments, what it says once it is at work, and its exit codes after SIGINT and SIGTERM."""
    dump_document(scenario(), folder / "scenario.json")
    RouterConfig(service="s", scenario=scenario(), policy=StaticPolicy(model="small")).write(folder / "router.json")
    text = Path(PAPER).read_text(encoding="utf-8")
    (folder / "one.yaml").write_text(re.sub(r"(gpus|replicas): 4", r"\1: 1", text), encoding="utf-8")
    (folder / "trace.csv").write_text("time_seconds\n" + "".join(f"{i * 0.5}\n" for i in range(800)))
    ended = (130, 143)
    return {
        "train": (("train", PAPER, "--out", "out", "--seeds", "1", "--learner", "Evolution"), "base rate", ended),
        "evaluate": (("evaluate", PAPER, "--out", "out"), "", ended),
        "demo": (("demo", "--service", PAPER, "--out", "out", "--no-prometheus"), "training", ended),
        "local": (("local", "up", "one.yaml", "--port", "0"), "curl", (0, 0)),
        "replay": (
            ("replay", "trace.csv", engine, "--service", "scenario.json", "--model", "small", "--out", "out"),
            "",
            ended,
        ),
        "profile": (("profile", engine, "--model", "small", "--repeats", "50", "--out", "p.yaml"), "", ended),
        "engine": (("engine", "scenario.json"), "GPU 0", (0, 0)),
        "router": (("router", "--config", "router.json"), "bes router", (0, 0)),
        "bench": (("bench", "decision", "--examples", str(ROOT / "examples"), "--out", "out"), "==", ended),
    }[name]


EVERY = ("train", "evaluate", "demo", "local", "replay", "profile", "engine", "router", "bench")
SIGNALLED = [(name, signal.SIGINT) for name in EVERY] + [
    (name, signal.SIGTERM) for name in ("train", "demo", "local", "replay", "engine", "router")
]


@pytest.mark.parametrize(("name", "number"), SIGNALLED, ids=[f"{name}-{number.name}" for name, number in SIGNALLED])
def test_an_interrupted_command_ends_at_once_and_leaves_nothing(
    tmp_path: Path, engine: str, name: str, number: signal.Signals
) -> None:
    arguments, begun, codes = command_of(name, tmp_path, engine)
    running = Running(tmp_path, arguments)
    try:
        running.wait(lambda: begun in running.said if begun else busy(running.process.pid))
        code, left = running.end(number)
        assert (code, left) == (codes[number is signal.SIGTERM], []), running.said
        assert "Traceback" not in running.said
        if code:
            assert running.said.splitlines()[-1] in {"bes: interrupted", "bes: ended by SIGTERM"}
        assert list(running.temporary.iterdir()) == []
        assert [str(path) for path in tmp_path.rglob("*.part")] == []
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def busy(pid: int, seconds: float = 1.2) -> bool:
    """Whether it has worked for so long: beyond its imports, whatever the machine is doing otherwise."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(sum(each.cpu_times()[:2]) for each in family) > seconds or (
            time.time() - family[0].create_time() > 2.5 * seconds
        )
    except psutil.NoSuchProcess:
        return True


LIMIT = 150
"""Bytes: the journal outgrows it with its first stage."""


def test_a_training_on_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = bes("train", PAPER, "--out", str(out), "--seeds", "1", "--learner", "Evolution", "--no-evaluation")
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )
    assert ended.returncode == 2, ended.stderr
    assert "training.json: cannot be written (File too large); free space" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert list(out.iterdir()) == []
