"""Runs a whole service on this machine: emulated GPUs and routers, ready when ``LocalService`` has been entered."""

import http.client
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bes_api.engines import ENGINES
from bes_api.handover import dump_document
from bes_api.router_config import (
    BackendAddress,
    Clients,
    DirectLoad,
    Listen,
    PolicyChoice,
    PrometheusLoad,
    RouterConfig,
    RulePolicy,
)
from bes_api.scenario import Scenario
from bes_api.service import EngineType
from bes_lab.engine.process import EngineAddresses
from bes_lab.errors import TargetError
from bes_lab.local import admin, prometheus
from bes_lab.local.children import Child, Children, bes
from bes_lab.local.prometheus import LocalPrometheus

START_SECONDS = 30.0
FIGURES_SECONDS = 20.0
"""A Prometheus looks at its targets some five seconds after its start, then comes the first scrape."""
_ANNOUNCEMENT = re.compile(r"^bes router: .* on http://[^:]+:(\d+)/v1 .*admin http://[^:]+:(\d+)\)", re.MULTILINE)
_COVERAGE = re.compile(r"^bes_router_load_figures_coverage (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """What to run, and where its files go. Router i listens at ``port`` + i; 0: at any free one."""

    name: str
    scenario: Scenario
    policy: PolicyChoice
    fallback: RulePolicy
    load: DirectLoad | LocalPrometheus
    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    decision_log: Path | None = None
    engines: Mapping[str, EngineType] = field(default_factory=dict)
    """What each model's engines speak; Emulated where it says nothing."""
    routers: int = 1
    clients: Clients = field(default_factory=Clients)


@dataclass
class _Router:
    """A router's process and the ports that it said; 0 before it did."""

    child: Child
    port: int = 0
    admin_port: int = 0


class LocalService:
    """A context: entering starts everything and waits until it is ready, leaving ends everything."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children = Children()
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
            pages = [self.metrics(router) for router in range(len(self._routers))]
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

    def _start(self) -> None:
        plan = self._plan
        scenario_file = plan.folder / "scenario.json"
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            dump_document(plan.scenario, scenario_file)
            admin.write_token(plan.folder)
        except OSError as error:
            raise TargetError(f"{plan.folder}: cannot be written ({error.strerror}); name another folder") from error
        gpus = self._start_gpus(scenario_file)
        if isinstance(plan.load, LocalPrometheus):
            shutil.rmtree(self._storage, ignore_errors=True)  # of a run that was killed
            text = prometheus.configuration(gpus, plan.load.scrape_interval_seconds)
            self._config_of_prometheus.write_text(text, encoding="utf-8")
            self.start_prometheus()
        for number in range(plan.routers):
            self._start_router(number, gpus)
        self._children.wait_until(lambda: all(map(self._is_ready, self._routers)), "all routers ready", START_SECONDS)

    def _start_gpus(self, scenario_file: Path) -> Sequence[EngineAddresses]:
        plan, files = self._plan, []
        for gpu in range(len(plan.scenario.gpus)):
            addresses = plan.folder / f"gpu-{gpu}.json"
            addresses.unlink(missing_ok=True)
            files.append(addresses)
            spoken = [f"--engine={model}={engine}" for model, engine in plan.engines.items()]
            command = bes("engine", str(scenario_file), "--gpu", str(gpu), "--host", plan.host, *spoken)
            self._run(f"gpu-{gpu}", (*command, "--addresses", str(addresses)))
        self._children.wait_until(lambda: all(file.exists() for file in files), "the GPUs were ready", START_SECONDS)
        return [EngineAddresses.read(file) for file in files]

    def _start_router(self, number: int, gpus: Sequence[EngineAddresses]) -> None:
        plan = self._plan
        name = "router" if plan.routers == 1 else f"router-{number}"
        config_file = plan.folder / f"{name}.json"
        _router_config(plan, gpus, number, self.prometheus_url).write(config_file)
        log = plan.decision_log
        if log is not None and number:
            log = log.with_name(f"{log.stem}-{number}{log.suffix}")
        logged = () if log is None else ("--decision-log", str(log))
        command = bes("router", "--config", str(config_file), "--admin-token", str(self.token_file), *logged)
        self._routers.append(_Router(self._run(name, command)))

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
    def _storage(self) -> Path:
        return self._plan.folder / "prometheus-data"

    @property
    def _config_of_prometheus(self) -> Path:
        return self._plan.folder / "prometheus.yml"

    def _is_ready(self, router: _Router) -> bool:
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


def _router_config(
    plan: Plan, gpus: Sequence[EngineAddresses], number: int, prometheus_url: str | None
) -> RouterConfig:
    load = plan.load
    return RouterConfig(
        service=plan.name,
        listen=Listen(host=plan.host, port=plan.port + number if plan.port else 0),
        admin=Listen(host=plan.host, port=0),
        scenario=plan.scenario,
        backends=tuple(_backends(plan, gpus)),
        load=load if isinstance(load, DirectLoad) else _asked_of(load, prometheus_url or ""),
        prometheus_origins=() if prometheus_url is None else (prometheus_url,),
        policy=plan.policy,
        fallback=plan.fallback,
        clients=plan.clients,
    )


def _backends(plan: Plan, gpus: Sequence[EngineAddresses]) -> Sequence[BackendAddress]:
    listed = []
    for engine in (engine for gpu in gpus for engine in gpu.engines):
        facts = ENGINES[plan.engines.get(engine.model, EngineType.EMULATED)]
        metrics = facts.metrics
        listed.append(
            BackendAddress(
                model=engine.model,
                replica=engine.replica,
                address=engine.host,
                port=engine.port,
                served_model=engine.model,
                gauges=metrics.in_flight,
                finished=metrics.finished,
                health_path=facts.health_path,
            )
        )
    return listed


def _asked_of(load: LocalPrometheus, url: str) -> PrometheusLoad:
    return PrometheusLoad(
        url=url,
        scrape_interval_seconds=load.scrape_interval_seconds,
        stale_after_seconds=load.stale_after_seconds,
    )


def curl_line(url: str, task: str) -> str:
    """A command that a person can paste."""
    body = json.dumps({"model": task, "prompt": "The capital of France is", "max_tokens": 16})
    return f"curl -i {url}/v1/completions -H 'content-type: application/json' -d '{body}'"
