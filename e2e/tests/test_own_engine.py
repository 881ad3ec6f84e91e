"""What docs/extending.md promises of an engine of one's own: its type is emulated, its program is routed to."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab_http import WAIT_SECONDS, complete, soon

from bes_lab.local.children import bes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "own_engine"
SOURCES = ("crds/src", "router/src", "policy_training/src", "e2e/src")

pytestmark = pytest.mark.slow


def patched(root: Path, patch: str) -> None:
    """Apply hunks by their lines alone, each of which must stand in its file exactly once."""
    for of_file in re.split(r"^--- .*\n(?=\+\+\+ )", patch, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@.*\n", of_file, flags=re.MULTILINE)
        file = root / head.removeprefix("+++ b/").strip()
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            text = file.read_text()
            assert text.count(old) == 1, f"{file.name}: the page's patch no longer fits: {old!r}"
            file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A copy of the sources that knows the type Echo, made as the page says."""
    root = tmp_path_factory.mktemp("with-echo")
    for source in SOURCES:
        shutil.copytree(ROOT / source, root / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLE / "echo.py", root / "crds/src/bes_api/engines")
    patched(root, (EXAMPLE / "echo.patch").read_text())
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(root / source) for source in SOURCES)}


@contextmanager
def started(command: tuple[str, ...], environment: dict[str, str], ready: str) -> Iterator[re.Match[str]]:
    """A process that has said ``ready``; it is ended by SIGTERM."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            found = next((match for line in process.stdout if (match := re.search(ready, line))), None)
            assert found is not None, "it ended before it was ready"
            yield found
        finally:
            process.terminate()


def test_a_service_may_name_the_new_type_and_runs_on_an_emulated_gpu(environment: dict[str, str]) -> None:
    command = bes("local", "up", str(EXAMPLE / "service.yaml"), "--port", "0")
    with started(command, environment, r"^curl .*:(\d+)/v1") as found:
        port = int(found[1])
        assert soon(lambda: complete(port, "repeat", 4, 4).status == 200)
        assert complete(port, "repeat", 4, 4).headers["x-bes-model"] == "echo"


def test_the_program_itself_is_routed_to_and_its_load_is_read(environment: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "router.json"
    server = (sys.executable, str(EXAMPLE / "echo_server.py"))
    with started(server, environment, r"127\.0\.0\.1:(\d+)") as engine:
        place = ("--port", "0", "--out", str(config))
        configure = (sys.executable, str(EXAMPLE / "configure.py"), str(EXAMPLE / "service.yaml"))
        subprocess.run((*configure, f"echo=127.0.0.1:{engine[1]}", *place), check=True, env=environment)
        routed = bes("router", "--config", str(config))
        with started(routed, environment, r"http://[^:]+:(\d+)/v1 .*admin http://[^:]+:(\d+)\)") as ports:
            body = {"model": "repeat", "prompt": "one two three", "max_tokens": 2}
            assert soon(lambda: ask(int(ports[1]), "POST", "/v1/completions", json.dumps(body))[0] == 200)
            _, answer = ask(int(ports[1]), "POST", "/v1/completions", json.dumps(body))
            assert json.loads(answer)["choices"][0]["text"] == "one two"
            known = 'bes_router_load_figures_known{model="echo",replica="0"} 1.0'
            assert soon(lambda: known in ask(int(ports[2]), "GET", "/metrics")[1])


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
