"""What a request costs in the router, beside nginx in the same minute on the same machine.

All proxies stand in front of the same backend and get the same load in turn, round by round, so that a machine that
is busy elsewhere slows all of them; what is recorded is the median of the rounds.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import uvloop

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.router_config import DirectLoad, Listen, PolicyChoice, RouterConfig
from bes_api.scenario import Scenario
from bes_lab.bench import nginx
from bes_lab.bench.backend import CHUNKS
from bes_lab.bench.generator import Load, drive
from bes_lab.bench.policies import policy_choices
from bes_lab.bench.processes import cpu_seconds, free_port, memory_megabytes, wait_until_answers
from bes_lab.results import Record, Recorder

CONNECTIONS = 32
REQUESTS = 8000
STREAMS = 480
ROUNDS = 7
NGINX = "nginx"


@dataclass
class Proxy:
    """One proxy at work and what its rounds showed; costs in microseconds, times to first token in milliseconds."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    startup_seconds: float
    per_request: list[float] = field(default_factory=list)
    per_chunk: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    memory: float = 0.0


class BenchmarkError(Exception):
    """A proxy answered wrongly under the benchmark's load; its figures would mean nothing."""


def measure(scenario: Scenario, build: Path, recorder: Recorder, say: Callable[[str], None]) -> list[Record]:
    """Records of the router with a rule and with the scorer, and of nginx and the ratios where it can be had."""
    binary = nginx.find(build / "nginx")
    if binary is None:
        say("SKIPPED: nginx is neither installed nor to be had from apt here, so no ratio to it is recorded")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = stack.enter_context(backend(sum(model.max_replicas for model in scenario.models)))
        proxies = []
        if binary:
            proxies.append(stack.enter_context(nginx_proxy(binary, folder / NGINX, engines)))
        for name, choice in policy_choices(folder, scenario, recorder.seed or 0).items():
            config = router_config(scenario, engines, choice)
            proxies.append(stack.enter_context(router_proxy(name, folder / f"router-{name}", config)))
        direct: list[float] = []
        for number in range(-1, ROUNDS):
            say(f"round {number + 1} of {ROUNDS}" if number >= 0 else "warming up")
            for proxy in proxies:
                _round(proxy, counts=number >= 0)
            direct.append(median(_drive(engines[0], STREAMS, stream=True).first_byte) * 1e3)
        for proxy in proxies:
            proxy.memory = memory_megabytes(proxy.process.pid)
    versions = {**recorder.versions, "nginx": nginx.version(binary)} if binary else recorder.versions
    return _records(replace(recorder, versions=versions), proxies, median(direct))


def _round(proxy: Proxy, *, counts: bool) -> None:
    before = cpu_seconds(proxy.process.pid)
    whole = _drive(proxy.port, REQUESTS)
    between = cpu_seconds(proxy.process.pid)
    streamed = _drive(proxy.port, STREAMS, stream=True)
    after = cpu_seconds(proxy.process.pid)
    if counts:
        proxy.per_request.append((between - before) / REQUESTS * 1e6)
        proxy.per_chunk.append((after - between) / (STREAMS * CHUNKS) * 1e6)
        proxy.latency.append(median(whole.latency) * 1e3)
        proxy.first_token.append(median(streamed.first_byte) * 1e3)


def _drive(port: int, requests: int, *, stream: bool = False) -> Load:
    load = uvloop.run(drive(port, CONNECTIONS, requests, stream=stream))
    if load.failures or len(load.latency) != requests:
        raise BenchmarkError(f"port {port}: {load.failures} failures, {len(load.latency)} of {requests} answered")
    return load


def _records(recorder: Recorder, proxies: list[Proxy], direct_first_token: float) -> list[Record]:
    records = []
    reference = next((proxy for proxy in proxies if proxy.name == NGINX), None)
    for proxy in proxies:
        ours = proxy is not reference
        title = f"router with the {proxy.name}" if ours else "nginx, one worker"
        identity = f"router-{proxy.name}"
        if ours and reference:
            ratios = [mine / theirs for mine, theirs in zip(proxy.per_request, reference.per_request, strict=True)]
            bar = "<= 2.2" if proxy.name == "rule" else "<= 3"
            records.append(
                recorder.record(
                    f"{identity}-ratio", f"CPU per request, {title}, over nginx", median(ratios), "times", bar
                )
            )
        added = median(proxy.first_token) - direct_first_token
        figures = [
            ("cpu", "CPU per request", median(proxy.per_request), "µs", None),
            ("chunk", "CPU per streamed chunk", median(proxy.per_chunk), "µs", None),
            ("first-token", "added to the time to first token (median, on kept connections)", added, "ms", None),
            ("latency", f"median latency at {CONNECTIONS} connections, closed loop", median(proxy.latency), "ms", None),
            ("memory", "memory (proportional set size)", proxy.memory, "MB", "<= 80" if ours else None),
            ("startup", "from start until it answers", proxy.startup_seconds, "s", "<= 1" if ours else None),
        ]
        records += [
            recorder.record(f"{identity}-{key}", f"{what}, {title}", value, unit, bar)
            for key, what, value, unit, bar in figures
        ]
    return records


def router_config(scenario: Scenario, engines: list[int], choice: PolicyChoice) -> RouterConfig:
    """A router in front of ``engines``, numbered as the scenario numbers them."""
    replicas = [(model.name, replica) for model in scenario.models for replica in range(model.max_replicas)]
    return RouterConfig(
        service="bench",
        listen=Listen(port=free_port()),
        admin=Listen(port=free_port()),
        scenario=scenario,
        discovery=StaticBackends(
            backends=tuple(
                BackendAddress(model=model, replica=replica, address="127.0.0.1", port=port, served_model=model)
                for (model, replica), port in zip(replicas, engines, strict=True)
            )
        ),
        load=DirectLoad(interval_seconds=1.0),
        policy=choice,
    )


@contextmanager
def backend(count: int) -> Iterator[list[int]]:
    """The backend process; yields its ports. It ends when its standard input closes, however this process ends."""
    command = [sys.executable, "-m", "bes_lab.bench.backend", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - opened above
        yield json.loads(process.stdout.readline())


@contextmanager
def nginx_proxy(binary: Path, folder: Path, engines: list[int]) -> Iterator[Proxy]:
    """nginx at work."""
    port = free_port()
    started = time.perf_counter()
    with _ended(nginx.start(binary, folder, port, engines)) as process:
        wait_until_answers(port, "/metrics")
        yield Proxy(NGINX, process, port, time.perf_counter() - started)


@contextmanager
def router_proxy(name: str, folder: Path, config: RouterConfig) -> Iterator[Proxy]:
    """The router at work as a process of its own."""
    folder.mkdir()
    path = folder / "router.json"
    config.write(path)
    command = [str(Path(sys.executable).with_name("bes")), "router", "--config", str(path)]
    started = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with _ended(process):
        try:
            wait_until_answers(config.admin.port, "/readyz")
        except TimeoutError as error:
            raise BenchmarkError(f"the router did not become ready: {(folder / 'log').read_text()}") from error
        yield Proxy(name, process, config.listen.port, time.perf_counter() - started)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
