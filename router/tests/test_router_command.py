"""`bes router` as a process: ready at once, small, serving, drained by SIGTERM, and clear about what it cannot do."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from router_rig import scenario_of_rig

from bes_api.router_config import BackendAddress, DeadlineAwarePolicy, LearnedPolicy, Listen, PolicyChoice, RouterConfig

ENGINE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from router_rig import Engine, complete
async def slow(engine, asked, writer):
    await asyncio.sleep(0.3)
    await complete(engine, asked, writer)
async def serve():
    engine = Engine(slow)
    await engine.start()
    print(engine.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(serve())
"""


@contextmanager
def engine_process() -> Iterator[int]:
    """An engine whose life ends with this context."""
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(Path(__file__).parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def written(path: Path, port: int, policy: PolicyChoice, listen: Listen | None = None) -> Path:
    backend = BackendAddress(model="large", replica=0, address="127.0.0.1", port=port, served_model="org/large")
    RouterConfig(
        service="demo", scenario=scenario_of_rig(), backends=(backend,), policy=policy, listen=listen or Listen()
    ).write(path)
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from bes_api.command import main; raise SystemExit(main())", "router", *arguments]


def memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


def test_it_is_ready_within_a_second_small_and_drains_on_sigterm(tmp_path: Path) -> None:
    with engine_process() as port:
        config = written(tmp_path / "router.json", port, LearnedPolicy(artifact=tmp_path / "none"))
        log = tmp_path / "decisions.jsonl"
        began = time.monotonic()
        with subprocess.Popen(
            command("--config", str(config), "--decision-log", str(log)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            seconds = time.monotonic() - began
            url = line.split(" on ")[1].split(" ")[0]
            assert "policy DeadlineAware; fallback=unreadable" in line
            body = json.dumps({"prompt": "x", "model": "trivia"}).encode()
            with urlopen(Request(f"{url}/completions", body)) as answer:  # noqa: S310 - our own loopback URL
                assert answer.headers["x-bes-policy"] == "DeadlineAware; fallback=unreadable"
                assert json.load(answer)["model"] == "org/large"
            assert memory_mib(process.pid) <= 80
            running = socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])))
            running.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert running.recv(1000).startswith(b"HTTP/1.1 200 OK")
            running.close()
            assert process.wait(5) == 0
            assert b"Traceback" not in process.communicate()[1]
        assert len(log.read_text().splitlines()) == 3
        # The bar is 1 s on an idle machine and has its own record; here other tests may share the cores.
        assert seconds < 3


def test_it_serves_503_without_backends_and_is_ready_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    RouterConfig(service="demo", scenario=scenario_of_rig(), policy=DeadlineAwarePolicy()).write(path)
    with subprocess.Popen(command("--config", str(path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        admin = line.split("admin ")[1].strip(" )\n")
        with urlopen(f"{admin}/readyz") as answer:  # noqa: S310 - our own loopback URL
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


@pytest.mark.parametrize("content", [None, "{", '{"version": 1}'])
def test_a_configuration_that_cannot_be_read_is_one_line_and_exit_code_2(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "router.json"
    if content is not None:
        path.write_text(content)
    ended = subprocess.run(command("--config", str(path)), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = written(tmp_path / "router.json", 1, DeadlineAwarePolicy(), Listen(port=port))
        ended = subprocess.run(command("--config", str(config)), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} cannot be bound" in ended.stderr
    assert "Traceback" not in ended.stderr
