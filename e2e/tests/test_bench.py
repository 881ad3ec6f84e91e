"""The benchmarks' own parts: what they measure with must be right before their figures mean anything."""

import argparse
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from lab_http import soon

from bes_api.documents import the_service
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import results
from bes_lab.bench import command, decision, nginx, router
from bes_lab.bench.backend import CHUNK_SECONDS, CHUNKS
from bes_lab.bench.generator import drive
from bes_lab.bench.policies import policy_choices
from bes_lab.bench.processes import cpu_seconds, free_port, memory_megabytes, wait_until_answers

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def scenario() -> Scenario:
    return scenario_of(*the_service(EXAMPLES / "opt-paper.yaml"))


@pytest.fixture
def engines() -> Iterator[list[int]]:
    with router.backend(2) as ports:
        yield ports


def test_every_request_of_the_generator_is_answered_once(engines: list[int]) -> None:
    load = uvloop.run(drive(engines[1], connections=4, requests=203))
    assert (load.failures, len(load.latency), len(load.first_byte)) == (0, 203, 203)
    assert all(0 < first <= whole for first, whole in zip(load.first_byte, load.latency, strict=True))


def test_a_streamed_answer_starts_at_once_and_takes_as_long_as_its_chunks(engines: list[int]) -> None:
    rest = (CHUNKS - 1) * CHUNK_SECONDS
    for _ in range(5):
        load = uvloop.run(drive(engines[0], connections=8, requests=8, stream=True))
        assert load.failures == 0
        assert rest <= min(load.latency)
        if max(load.first_byte) < rest:
            return
    pytest.skip(f"this machine takes {max(load.first_byte):.3f} s for a first byte that is sent at once")


def test_an_answer_that_is_no_success_counts_as_a_failure() -> None:
    async def refuse_everything() -> int:
        import asyncio  # noqa: PLC0415 - only this test serves

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            load = await drive(server.sockets[0].getsockname()[1], connections=1, requests=1)
        return load.failures

    assert uvloop.run(refuse_everything()) >= 1


def test_processor_time_and_memory_of_a_child_are_seen() -> None:
    burn = "import time\nend = time.process_time() + 0.2\nblock = bytearray(20_000_000)\n"
    burn += "while time.process_time() < end: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        assert 0.2 <= cpu_seconds(child.pid) < 2.0
        assert 20 < memory_megabytes(child.pid) < 80
        child.stdin.write(b"\n")


def test_waiting_for_nobody_ends_with_a_clear_error() -> None:
    with pytest.raises(TimeoutError, match=r"nothing answered GET /readyz on port \d+ within 0 s"):
        wait_until_answers(free_port(), "/readyz", limit_seconds=0.02)


def test_a_port_said_to_be_free_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_a_machine_without_nginx_and_apt_is_told_apart_from_one_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_keywords: None)
    assert nginx.find(tmp_path) is None
    fake = tmp_path / "usr" / "sbin" / "nginx"
    fake.parent.mkdir(parents=True)
    fake.write_text("#!/bin/sh\necho 'nginx version: nginx/9.8.7' >&2\n")
    fake.chmod(0o755)
    assert nginx.find(tmp_path) == fake
    assert nginx.version(fake) == "9.8.7"


def test_ten_models_on_sixteen_gpus_are_a_sound_scenario(scenario: Scenario) -> None:
    large = decision.grown(scenario, models=10, gpus=16)
    assert [model.max_replicas for model in large.models] == [16] * 10
    assert len(large.gpus) == 16
    steps = [model.latency.decode_base_ms for model in large.models]
    assert steps == sorted(steps)
    assert steps[0] == pytest.approx(scenario.models[0].latency.decode_base_ms)
    assert steps[-1] == pytest.approx(scenario.models[-1].latency.decode_base_ms)


def test_a_decision_costs_something_and_its_choice_is_part_of_it(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "DECISIONS", 200)
    monkeypatch.setattr(decision, "ROUNDS", 1)
    for choice in policy_choices(tmp_path, scenario, seed=1).values():
        cost = decision.cost_of(scenario, choice, seed=1)
        assert 0 < cost.choice < cost.whole < math.inf


@pytest.mark.slow
def test_the_router_is_measured_end_to_end_and_leaves_no_process(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"REQUESTS": 200, "STREAMS": 32, "ROUNDS": 1}.items():
        monkeypatch.setattr(router, name, value)
    monkeypatch.setattr(nginx, "find", lambda _folder: None)
    said: list[str] = []
    records = router.measure(scenario, tmp_path, results.recorder("bes bench router", seed=1), said.append)
    assert said[0].startswith("SKIPPED: nginx")
    figures = {record.id: record.measured for record in records}
    assert len(figures) == len(records) == 12
    assert all(figure is not None and math.isfinite(figure) for figure in figures.values())
    assert 1 < (figures["router-rule-cpu"] or 0) < 5000
    assert soon(lambda: _children(os.getpid()) == [])  # one that was waited for may stand in /proc for a moment


def test_what_is_measured_is_recorded_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(_arguments: argparse.Namespace, recorder: results.Recorder) -> list[results.Record]:
        return [recorder.record("decision-rule", "one decision with a rule", 7.0, "µs", "<= 15")]

    monkeypatch.setattr(command, "BENCHMARKS", {"decision": measure})
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args(["all", "--out", str(tmp_path)])) == 0
    [record] = results.read(tmp_path / "bench.json")
    assert (record["id"], record["met"], record["command"]) == ("decision-rule", True, "bes bench decision")
    assert "met" in capsys.readouterr().out


def test_a_benchmark_that_failed_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: argparse.Namespace, _recorder: results.Recorder) -> list[results.Record]:
        raise router.BenchmarkError("3 failures")

    monkeypatch.setattr(command, "BENCHMARKS", {"router": fail})
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(command.BenchmarkFailedError, match="bench router: 3 failures"):
        command.run(parser.parse_args(["router", "--out", str(tmp_path)]))
    assert not (tmp_path / "bench.json").exists()


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []
