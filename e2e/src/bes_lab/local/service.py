"""Runs a whole service on this machine: emulated GPUs and routers, ready when ``LocalService`` has been entered."""

import http.client
import json
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bes_api.handover import dump_document
from bes_api.router_config import RouterConfig
from bes_lab.engine.process import EngineAddresses
from bes_lab.errors import TargetError
from bes_lab.local import admin, prometheus
from bes_lab.local.children import Child, Children, bes
from bes_lab.local.plan import Plan, router_config
from bes_lab.local.prometheus import LocalPrometheus

START_SECONDS = 90.0
"""The first start after an installation also compiles every package's Python."""
FIGURES_SECONDS = 60.0
"""A Prometheus looks at its targets some five seconds after its start, then comes the first scrape."""
_ANNOUNCEMENT = re.compile(r"^bes router: .* on http://[^:]+:(\d+)/v1 .*admin http://[^:]+:(\d+)\)", re.MULTILINE)
_COVERAGE = re.compile(r"^bes_router_load_figures_coverage (\S+)$", re.MULTILINE)


@dataclass
class _Router:
    """A router's process (None while it is killed) and the ports that it said; 0 before it did."""

    child: Child | None
    port: int = 0
    admin_port: int = 0


class LocalService:
    """A context: entering starts everything and waits until it is ready, leaving ends everything."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children = Children()
        self._gpus: list[Child | None] = []
        self._routers: list[_Router] = []
        self._prometheus: Child | None = None
        self._prometheus_port = 0

    @property
    def url(self) -> str:
        """Where clients send requests: the first router."""
        return self.urls[0]

    @property
    def urls(self) -> Sequence[str]:
        """Every router's address for clients."""
        return [f"http://{self._plan.host}:{router.port}" for router in self._routers]

    @property
    def admin_url(self) -> str:
        """The first router's health and metrics."""
        return self.admin_urls[0]

    @property
    def admin_urls(self) -> Sequence[str]:
        """Every router's health and metrics."""
        return [f"http://{self._plan.host}:{router.admin_port}" for router in self._routers]

    @property
    def token_file(self) -> Path:
        """It holds the token for everything else on the admin ports."""
        return self._plan.folder / admin.NAME

    @property
    def prometheus_url(self) -> str | None:
        """The Prometheus that was started here, also while it is stopped."""
        return f"http://127.0.0.1:{self._prometheus_port}" if self._prometheus_port else None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._children}

    @property
    def addresses(self) -> Sequence[EngineAddresses]:
        """Where every GPU's engines listen, or listened until it was killed."""
        return [EngineAddresses.read(self._addresses(gpu)) for gpu in range(len(self._gpus))]

    def config_file(self, router: int = 0) -> Path:
        """A router's configuration; it follows whatever is written there."""
        return self._plan.folder / f"{self._router_name(router)}.json"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def check(self) -> None:
        """Raise ChildError if a process has ended."""
        self._children.check()

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of every process so far, user and system."""
        used = {}
        for name, pid in self.pids.items():
            times = psutil.Process(pid).cpu_times()
            used[name] = times.user + times.system
        return used

    def metrics(self, router: int = 0) -> str:
        """A router's metrics page."""
        return self._ask(self._routers[router], "/metrics")[1]

    def wait_for_figures(self, seconds: float = FIGURES_SECONDS) -> None:
        """Return when every router knows every backend's load figure. Raises StartError when time is up."""

        def all_known() -> bool:
            pages = [self.metrics(number) for number, router in enumerate(self._routers) if router.child is not None]
            return all(float(found[1]) == 1.0 for page in pages if (found := _COVERAGE.search(page)))

        self._children.wait_until(all_known, "the routers knew every load figure", seconds)

    def stop_prometheus(self) -> None:
        """An outage: end the Prometheus that was started here; routers and GPUs go on."""
        if self._prometheus is not None:
            self._children.stop(self._prometheus)
            self._prometheus = None

    def start_prometheus(self) -> None:
        """Start it, or start it again at the same port with what it had stored."""
        plan = self._plan
        if not isinstance(plan.load, LocalPrometheus):
            raise TargetError("this service runs without a Prometheus")
        command = prometheus.command_line(
            plan.load.binary, self._config_of_prometheus, self._storage, self._prometheus_port
        )
        self._prometheus = self._run("prometheus", command)
        self._children.wait_until(self._prometheus_listens, "Prometheus listened", START_SECONDS)

    def kill_gpu(self, gpu: int) -> None:
        """SIGKILL: its connections are reset, nothing is said."""
        child, self._gpus[gpu] = self._gpus[gpu], None
        if child is not None:
            self._children.signal(child, signal.SIGKILL)

    def return_gpu(self, gpu: int) -> None:
        """Start it again, at other ports; Prometheus and routers are told, and follow within seconds."""
        self._gpus[gpu] = self._run_gpu(gpu)
        self._wait_for_gpus()
        self._write_config_of_prometheus()
        if self._prometheus is not None:
            self._prometheus.process.send_signal(signal.SIGHUP)  # it reads its configuration anew
        listed = router_config(self._plan, self.addresses, 0, self.prometheus_url).discovery
        for number in range(len(self._routers)):
            config = RouterConfig.read(self.config_file(number))
            config.model_copy(update={"discovery": listed}).write(self.config_file(number))

    def end_router(self, number: int, how: int) -> int:
        """Send the signal ``how`` and wait; the exit code. Its port stays free for `return_router`."""
        router = self._routers[number]
        child, router.child = router.child, None
        if child is None:
            raise TargetError(f"router {number} does not run")
        return self._children.signal(child, how)

    def return_router(self, number: int) -> None:
        """Start it again where clients knew it."""
        config = RouterConfig.read(self.config_file(number))
        listen = config.listen.model_copy(update={"port": self._routers[number].port})
        config.model_copy(update={"listen": listen}).write(self.config_file(number))
        self._run_router(number)
        self._wait_for_routers()

    def _start(self) -> None:
        plan = self._plan
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            dump_document(plan.scenario, self._scenario_file)
            admin.write_token(plan.folder)
        except OSError as error:
            raise TargetError(f"{plan.folder}: cannot be written ({error.strerror}); name another folder") from error
        for gpu in range(len(plan.scenario.gpus)):
            self._gpus.append(self._run_gpu(gpu))
        self._wait_for_gpus()
        if isinstance(plan.load, LocalPrometheus):
            shutil.rmtree(self._storage, ignore_errors=True)  # of a run that was killed
            self._write_config_of_prometheus()
            self.start_prometheus()
        for number in range(plan.routers):
            self._routers.append(_Router(None))
            self._write_config(number)
            self._run_router(number)
        self._wait_for_routers()

    def _write_config_of_prometheus(self) -> None:
        load = self._plan.load
        if isinstance(load, LocalPrometheus):
            text = prometheus.configuration(self.addresses, load.scrape_interval_seconds)
            self._config_of_prometheus.write_text(text, encoding="utf-8")

    def _run_gpu(self, gpu: int) -> Child:
        plan, addresses = self._plan, self._addresses(gpu)
        addresses.unlink(missing_ok=True)
        spoken = [f"--engine={model}={engine}" for model, engine in plan.engines.items()]
        command = bes("engine", str(self._scenario_file), "--gpu", str(gpu), "--host", plan.host, *spoken)
        return self._run(f"gpu-{gpu}", (*command, "--addresses", str(addresses)))

    def _wait_for_gpus(self) -> None:
        files = [self._addresses(gpu) for gpu, child in enumerate(self._gpus) if child is not None]
        self._children.wait_until(lambda: all(file.exists() for file in files), "the GPUs were ready", START_SECONDS)

    def _wait_for_routers(self) -> None:
        running = [router for router in self._routers if router.child is not None]
        self._children.wait_until(lambda: all(map(self._is_ready, running)), "all routers were ready", START_SECONDS)

    def _addresses(self, gpu: int) -> Path:
        return self._plan.folder / f"gpu-{gpu}.json"

    def _write_config(self, number: int) -> None:
        port = self._plan.port + number if self._plan.port else 0
        router_config(self._plan, self.addresses, port, self.prometheus_url).write(self.config_file(number))

    def _run_router(self, number: int) -> None:
        log = self._plan.decision_log
        if log is not None and number:
            log = log.with_name(f"{log.stem}-{number}{log.suffix}")
        logged = () if log is None else ("--decision-log", str(log))
        token = ("--admin-token", str(self.token_file))
        command = bes("router", "--config", str(self.config_file(number)), *token, *logged)
        self._routers[number] = _Router(self._run(self._router_name(number), command))

    def _router_name(self, number: int) -> str:
        return "router" if self._plan.routers == 1 else f"router-{number}"

    def _run(self, name: str, command: Sequence[str]) -> Child:
        log = self._plan.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        return self._children.start(name, command, log)

    def _end(self) -> None:
        self._children.end()
        shutil.rmtree(self._storage, ignore_errors=True)

    def _prometheus_listens(self) -> bool:
        assert self._prometheus is not None  # noqa: S101 - for the type checker: it was just started
        port = prometheus.port_in(self._prometheus.log.read_text(encoding="utf-8", errors="replace"))
        self._prometheus_port = port or self._prometheus_port
        return port is not None

    @property
    def _scenario_file(self) -> Path:
        return self._plan.folder / "scenario.json"

    @property
    def _storage(self) -> Path:
        return self._plan.folder / "prometheus-data"

    @property
    def _config_of_prometheus(self) -> Path:
        return self._plan.folder / "prometheus.yml"

    def _is_ready(self, router: _Router) -> bool:
        if router.child is None:
            return False
        if not router.port:
            found = _ANNOUNCEMENT.search(router.child.log.read_text(encoding="utf-8", errors="replace"))
            if found is None:
                return False
            router.port, router.admin_port = int(found[1]), int(found[2])
        try:
            return self._ask(router, "/readyz")[0] == 200
        except OSError:
            return False

    def _ask(self, router: _Router, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._plan.host, router.admin_port, timeout=2.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def curl_line(url: str, task: str) -> str:
    """A command that a person can paste."""
    body = json.dumps({"model": task, "prompt": "The capital of France is", "max_tokens": 16})
    return f"curl -i {url}/v1/completions -H 'content-type: application/json' -d '{body}'"
