"""`bes router` as a process: ready at once, small, serving, drained by SIGTERM, and clear about what it cannot do."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from kubelet import mount
from policy_scenarios import learned_artifact
from router_rig import scenario_of_rig

from bes_api.config_map import MAX_ARTIFACT_BYTES, WEIGHTS, data_digest, read_files
from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.router_config import (
    ConfiguredPolicy,
    DeadlineAwarePolicy,
    DeliveredPolicy,
    LearnedPolicy,
    Listen,
    RouterConfig,
)
from bes_api.router_status import RouterStatus
from bes_router.policy.artifact import write_artifact

WAIT_SECONDS = 60.0
ENGINE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from router_rig import Engine, complete
async def held(engine, asked, writer):
    if asked.json["prompt"] == "hold":
        print("asked", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await complete(engine, asked, writer)
async def serve():
    engine = Engine(held)
    await engine.start()
    print(engine.port, flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""
"""Answers at once, but the prompt "hold" when a line comes."""


@contextmanager
def engine_process() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port of an engine whose life ends with this context."""
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(Path(__file__).parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def written(path: Path, port: int, policy: ConfiguredPolicy, listen: Listen | None = None) -> Path:
    backend = BackendAddress(model="large", replica=0, address="127.0.0.1", port=port, served_model="org/large")
    RouterConfig(
        service="demo",
        scenario=scenario_of_rig(),
        discovery=StaticBackends(backends=(backend,)),
        policy=policy,
        listen=listen or Listen(),
    ).write(path)
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from bes_api.command import main; raise SystemExit(main())", "router", *arguments]


def memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        with urlopen(url, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)
    except HTTPError as error:
        error.close()
        return False


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_it_is_ready_small_and_drains_on_sigterm(tmp_path: Path) -> None:
    with engine_process() as (port, engine):
        config = written(tmp_path / "router.json", port, LearnedPolicy(artifact=tmp_path / "none"))
        log = tmp_path / "decisions.jsonl"
        with subprocess.Popen(
            command("--config", str(config), "--decision-log", str(log)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            url = line.split(" on ")[1].split(" ")[0]
            assert "policy DeadlineAware; fallback=unreadable" in line
            admin = line.split("admin ")[1].strip(" )\n")
            ready = 'bes_router_backend_ready{model="large",replica="0"} 1.0'
            until(lambda: ready in urlopen(f"{admin}/metrics").read().decode())  # noqa: S310 - our own loopback URL
            body = json.dumps({"prompt": "x", "model": "trivia"}).encode()
            with urlopen(Request(f"{url}/completions", body)) as answer:  # noqa: S310 - our own loopback URL
                assert answer.headers["x-bes-policy"] == "DeadlineAware; fallback=unreadable"
                assert json.load(answer)["model"] == "org/large"
            assert memory_mib(process.pid) <= 80
            body = json.dumps({"prompt": "hold", "model": "trivia"}).encode()
            running = socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])))
            running.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            assert engine.stdout is not None
            assert engine.stdin is not None
            assert engine.stdout.readline() == b"asked\n"
            process.send_signal(signal.SIGTERM)
            until(lambda: not answers(f"{admin}/readyz"))
            engine.stdin.write(b"go on\n")
            engine.stdin.flush()
            assert running.recv(1000).startswith(b"HTTP/1.1 200 OK")
            running.close()
            assert process.wait(WAIT_SECONDS) == 0
            assert b"Traceback" not in process.communicate()[1]
        assert len(log.read_text().splitlines()) == 3


@pytest.mark.slow
def test_it_follows_its_folders_and_says_so_to_whoever_holds_the_token(tmp_path: Path) -> None:
    made = learned_artifact(scenario_of_rig(), 1)
    write_artifact(tmp_path / "made", made.passport, made.tensors)
    files = read_files(tmp_path / "made", MAX_ARTIFACT_BYTES)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "config").mkdir()
    written(tmp_path / "config" / "router.json", 1, DeliveredPolicy())
    mount(tmp_path / "policy", files)
    mount(tmp_path / "candidate", files)
    options = {name: str(tmp_path / name) for name in ("config", "policy", "candidate")}
    arguments = [part for name, folder in options.items() for part in (f"--{name}", folder)]
    with subprocess.Popen(
        command(*arguments, "--admin-token", str(tmp_path / "token")), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert "policy Learned;" in line
        admin = line.split("admin ")[1].strip(" )\n")

        def status() -> RouterStatus:
            asked = Request(f"{admin}/status", headers={"Authorization": "Bearer secret"})  # noqa: S310 - our own URL
            with urlopen(asked) as answer:  # noqa: S310
                return RouterStatus.model_validate_json(answer.read())

        def wait(until: Callable[[RouterStatus], bool]) -> RouterStatus:
            limit = time.monotonic() + WAIT_SECONDS
            while not until(state := status()):
                assert time.monotonic() < limit
                time.sleep(0.05)
            return state

        first = status()
        assert first.policy.digest == data_digest(files)
        assert first.candidate is not None
        mount(tmp_path / "policy", {**files, WEIGHTS: b""})
        assert wait(lambda state: state.policy.fallback).policy.reason == "unreadable"
        mount(tmp_path / "policy", files)
        wait(lambda state: state.policy.digest == data_digest(files))
        (tmp_path / "config" / "router.json").write_text("{")
        assert (
            wait(lambda state: state.configuration.problem is not None).configuration.digest
            == first.configuration.digest
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
        assert b"Traceback" not in process.communicate()[1]


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
        assert process.wait(WAIT_SECONDS) == 0


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
