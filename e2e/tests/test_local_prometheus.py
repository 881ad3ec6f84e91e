"""A real Prometheus beside the emulated GPUs, asked by routers; figures that come, go and come back."""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from lab_http import WAIT_SECONDS, begin, complete, soon

from bes_api.documents import the_service
from bes_api.router_config import DirectLoad, PrometheusLoad, StaticPolicy
from bes_api.scenario_of import scenario_of
from bes_lab.engine.process import EngineAddresses
from bes_lab.errors import TargetError
from bes_lab.local import figures, prometheus
from bes_lab.local.children import bes
from bes_lab.local.command import LOCAL
from bes_lab.local.figures import figures_of
from bes_lab.local.prometheus import LocalPrometheus
from bes_lab.local.service import LocalService, Plan
from bes_router.load.board import Target
from bes_router.load.prometheus import PrometheusSource
from bes_router.policy.layout import Floats

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "examples" / "opt-paper.yaml"
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting")
CLOCK_SECONDS = 1.0
"""How well another clock is known on a slow machine; wall clock and monotonic one are ages apart."""
FINISHED = "vllm:request_success_total"


@pytest.fixture(scope="module")
def binary() -> Path:
    found = prometheus.find_prometheus()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no prometheus here, and `make prometheus` could not fetch one")
        pytest.skip("there is no prometheus here: run `make prometheus`")
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample on one GPU."""
    file = tmp_path_factory.mktemp("service") / "service.yaml"
    file.write_text(re.sub(r"(gpus|replicas): 4", r"\1: 1", PAPER.read_text(encoding="utf-8")), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def running(binary: Path, small: Path, folder: Path) -> Iterator[LocalService]:
    """Two routers, one GPU, one Prometheus that scrapes every second."""
    service, profiles = the_service(small)
    static = StaticPolicy(model="opt-1.3b")
    plan = Plan("opt", scenario_of(service, profiles), static, static, LocalPrometheus(binary), folder, routers=2)
    with LocalService(plan) as local:
        local.wait_for_figures()
        yield local
    assert not (folder / "prometheus-data").exists(), "its storage ends with it"


class Seen:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.own: list[float] = [0.0]
        self.finished_own: list[float] = [0.0]
        self.counts: list[float | None] = []
        self.at: list[float] = []
        self.served: list[tuple[float, float]] = []

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Floats,  # noqa: ARG002 - the tracker's signature
        at: Sequence[float],
        served: tuple[float, float] | None = None,
    ) -> None:
        (count,) = counts
        self.counts.append(count)
        self.at.append(at[0])
        if served is not None and served[1]:
            self.served.append(served)


@contextlib.asynccontextmanager
async def watching(running: LocalService, port: int, join: str | None = None) -> AsyncIterator[Seen]:
    """A source of the test's own that asks the running Prometheus about the engine at ``port``."""
    seen = Seen()
    url = running.prometheus_url
    assert url is not None
    settings = PrometheusLoad(url=url, scrape_interval_seconds=1.0, matchers={"job": "engines"})
    target = Target(0, "it", "127.0.0.1", port, GAUGES, FINISHED, join or f"127.0.0.1:{port}")
    task = asyncio.create_task(PrometheusSource([target], 1, settings, seen).run())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def engine_port(folder: Path, model: str) -> int:
    return next(each.port for each in EngineAddresses.read(folder / "gpu-0.json").engines if each.model == model)


def metric(page: str, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@pytest.mark.slow
def test_every_router_reads_a_real_prometheus_and_says_so(running: LocalService) -> None:
    assert set(running.pids) == {"gpu-0", "prometheus", "router-0", "router-1"}
    for number in (0, 1):
        page = running.metrics(number)
        assert 'bes_router_load_source_info{source="prometheus"} 1.0' in page
        assert soon(lambda number=number: metric(running.metrics(number), "bes_router_load_figures_coverage") == 1.0)
        assert 0.0 <= metric(page, "bes_router_load_figures_age_seconds") < WAIT_SECONDS
        asked, failed = (f"bes_router_load_query_{each}" for each in ("seconds_count", "errors_total"))
        assert soon(lambda number=number, asked=asked: metric(running.metrics(number), asked) >= 4)
        assert metric(page, failed) < metric(running.metrics(number), asked)


@pytest.mark.slow
def test_requests_in_flight_and_finished_are_seen_with_the_instant_of_their_scrape(
    running: LocalService, folder: Path
) -> None:
    port = engine_port(folder, "opt-6.7b")

    async def watch() -> None:
        async with watching(running, port) as seen:
            await until(lambda: bool(seen.counts) and seen.counts[-1] == 0.0)
            began = time.monotonic()
            held = [begin(port, "opt-6.7b", 16, 1500) for _ in range(3)]
            await until(lambda: seen.counts[-1] == 3.0)
            assert began - CLOCK_SECONDS <= seen.at[-1] <= time.monotonic(), "the scrape's own instant, on our clock"
            for each in held:
                each.close()
            await until(lambda: seen.counts[-1] == 0.0)
            seen.served.clear()
            await asyncio.to_thread(lambda: [complete(port, "opt-6.7b", 8, 2) for _ in range(4)])
            await until(lambda: sum(every for _, every in seen.served) >= 4.0)
            assert sum(own for own, _ in seen.served) == 0.0, "none of them was this router's"

    asyncio.run(watch())


@pytest.mark.slow
def test_an_engine_that_prometheus_does_not_know_is_unknown(running: LocalService, folder: Path) -> None:
    async def watch() -> None:
        async with watching(running, engine_port(folder, "opt-6.7b"), join="127.0.0.1:1") as seen:
            await until(lambda: len(seen.counts) >= 3)
            assert set(seen.counts) == {None}

    asyncio.run(watch())


@pytest.mark.slow
def test_an_outage_leaves_figures_until_they_are_stale_and_requests_are_served_all_along(
    running: LocalService,
) -> None:
    url = running.prometheus_url
    before = time.monotonic()
    running.stop_prometheus()
    page = running.metrics()
    if time.monotonic() - before < 1.5:  # half of what makes a figure stale
        assert metric(page, "bes_router_load_figures_coverage") == 1.0
    ports = [int(url.rpartition(":")[2]) for url in running.urls]
    limit = time.monotonic() + WAIT_SECONDS
    while metric(running.metrics(), "bes_router_load_figures_coverage") > 0.0:
        assert time.monotonic() < limit
        assert [complete(port, "lambada", 8, 2).status for port in ports] == [200, 200]
        time.sleep(0.1)
    assert metric(running.metrics(), "bes_router_load_query_errors_total") >= 1.0
    assert [complete(port, "lambada", 8, 2).status for port in ports] == [200, 200]
    running.start_prometheus()
    assert running.prometheus_url == url, "where the routers go on asking"
    running.wait_for_figures()
    running.check()


@pytest.mark.slow
def test_nothing_survives_a_parent_that_is_killed_with_a_prometheus(binary: Path, small: Path, tmp_path: Path) -> None:
    command = bes("local", "up", str(small), "--port", "0", "--logs", str(tmp_path), "--prometheus", "--routers", "2")
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    children: list[psutil.Process] = []
    try:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if line.startswith("curl"):
                break
        children = psutil.Process(up.pid).children(recursive=True)
        assert len(children) == 4, "a GPU, a Prometheus and two routers"
        assert sum(line.startswith("admin ") for line in said) == 2
        assert any("a Prometheus of our own that scrapes every 1 s" in line for line in said)
        os.kill(up.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=WAIT_SECONDS)
        assert not alive
    finally:
        for process in (*children, up):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        up.wait()
        if up.stdout is not None:
            up.stdout.close()


def service_with(tmp_path: Path, load: dict[str, object]) -> Path:
    text = PAPER.read_text(encoding="utf-8")
    assert text.count("direct: {interval: 1s}") == 1
    file = tmp_path / "service.yaml"
    written = text.replace("load:\n    direct: {interval: 1s}", f"load: {json.dumps(load)}")
    file.write_text(written, encoding="utf-8")
    return file


ASKED = {"prometheus": {"url": "http://prometheus.monitoring:9090", "scrapeInterval": "5s"}, "staleAfter": "20s"}


def test_a_local_run_does_as_the_service_asks_as_far_as_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = Path("/usr/bin/prometheus")
    plain, _ = the_service(PAPER)
    asking, _ = the_service(service_with(tmp_path, ASKED))
    quick, _ = the_service(service_with(tmp_path, {"direct": {"interval": "500ms"}}))
    monkeypatch.setattr(figures, "find_prometheus", lambda: binary)
    monkeypatch.setattr(figures, "the_prometheus", lambda: binary)
    assert figures_of(plain).load == DirectLoad()
    assert figures_of(quick).load == DirectLoad(interval_seconds=0.5)
    assert figures_of(plain, prometheus=True).load == LocalPrometheus(binary, 1.0)
    assert figures_of(asking).load == LocalPrometheus(binary, 5.0, 20.0)
    assert "in place of http://prometheus.monitoring:9090" in figures_of(asking).said
    assert figures_of(asking, None, 2.0).load == LocalPrometheus(binary, 2.0), "with a staleness of its own"
    assert figures_of(asking, prometheus=False).load == DirectLoad()
    monkeypatch.setattr(figures, "find_prometheus", lambda: None)
    assert figures_of(asking).load == DirectLoad()
    assert "`make prometheus` fetches one" in figures_of(asking).said


def test_without_a_binary_the_mend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(TargetError, match="run `make prometheus`"):
        prometheus.the_prometheus()
    fetched = prometheus.fetched_prometheus()
    fetched.parent.mkdir(parents=True)
    fetched.touch(mode=0o755)
    assert prometheus.find_prometheus() == fetched
    (tmp_path / "prometheus").touch(mode=0o755)
    assert prometheus.find_prometheus() == tmp_path / "prometheus", "the PATH comes first"


def test_the_fetching_command_and_the_lab_mean_the_same_place(tmp_path: Path) -> None:
    for cache in (str(tmp_path), "relative", ""):
        command = [sys.executable, str(ROOT / "requirements" / "prometheus.py"), "--where"]
        environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": cache, "PATH": os.environ["PATH"]}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        asked = "from bes_lab.local.prometheus import fetched_prometheus; print(fetched_prometheus())"
        own = subprocess.run(
            [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        assert said.stdout == own.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--routers", "0"], "--routers 0: expected 1 to 16"),
        (["--routers", "2", "--port", "65535"], "there are no 2 ports from there on"),
        (["--scrape-interval", "1"], "--scrape-interval: '1' is not a duration"),
        (["--scrape-interval", "1s"], "add --prometheus"),
        (["--prometheus", "--scrape-interval", "500s"], "500s is too long: Prometheus answers with nothing that is"),
        (["--prometheus", "--scrape-interval", "10ms"], "0.01s is too short"),
    ],
)
def test_an_argument_of_the_local_run_that_cannot_be_used_is_refused(arguments: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    LOCAL.configure(parser)
    with pytest.raises(TargetError, match=re.escape(message)):
        LOCAL.run(parser.parse_args(["up", str(PAPER), *arguments]))
