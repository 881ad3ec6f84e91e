"""Runs a whole service on this machine: emulated GPUs and the router, ready when ``LocalService`` has been entered."""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bes_api.handover import dump_document
from bes_api.router_config import BackendAddress, DirectLoad, Listen, PolicyChoice, RouterConfig, RulePolicy
from bes_api.scenario import Scenario
from bes_api.service import EngineType
from bes_lab.engine.process import EngineAddresses
from bes_lab.errors import TargetError
from bes_lab.local.children import Child, Children, bes

START_SECONDS = 30.0
_ANNOUNCEMENT = re.compile(r"^bes router: .* on http://[^:]+:(\d+)/v1 .*admin http://[^:]+:(\d+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """What to run, and where its files go."""

    name: str
    scenario: Scenario
    policy: PolicyChoice
    fallback: RulePolicy
    load: DirectLoad
    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    decision_log: Path | None = None
    engines: Mapping[str, EngineType] = field(default_factory=dict)
    """What each model's engines speak; Emulated where it says nothing."""


class LocalService:
    """A context: entering starts everything and waits until it is ready, leaving ends everything."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children = Children()
        self._gpus: list[Child] = []
        self._router: Child | None = None
        self._port = 0
        self._admin_port = 0

    @property
    def url(self) -> str:
        """Where clients send requests."""
        return f"http://{self._plan.host}:{self._port}"

    @property
    def admin_url(self) -> str:
        """The router's health and metrics."""
        return f"http://{self._plan.host}:{self._admin_port}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._children}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._children.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._children.end()

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

    def metrics(self) -> str:
        """The router's metrics page."""
        return self._ask("/metrics")[1]

    def _start(self) -> None:
        plan = self._plan
        scenario_file = plan.folder / "scenario.json"
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            dump_document(plan.scenario, scenario_file)
        except OSError as error:
            raise TargetError(f"{plan.folder}: cannot be written ({error.strerror}); name another folder") from error
        files = []
        for gpu in range(len(plan.scenario.gpus)):
            addresses = plan.folder / f"gpu-{gpu}.json"
            addresses.unlink(missing_ok=True)
            files.append(addresses)
            spoken = [f"--engine={model}={engine}" for model, engine in plan.engines.items()]
            command = bes("engine", str(scenario_file), "--gpu", str(gpu), "--host", plan.host, *spoken)
            self._gpus.append(self._run(f"gpu-{gpu}", (*command, "--addresses", str(addresses))))
        self._children.wait_until(lambda: all(file.exists() for file in files), "the GPUs were ready", START_SECONDS)
        config_file = plan.folder / "router.json"
        _router_config(plan, [EngineAddresses.read(file) for file in files]).write(config_file)
        log = () if plan.decision_log is None else ("--decision-log", str(plan.decision_log))
        self._router = self._run("router", bes("router", "--config", str(config_file), *log))
        self._children.wait_until(self._router_ready, "the router was ready", START_SECONDS)

    def _run(self, name: str, command: tuple[str, ...]) -> Child:
        log = self._plan.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        return self._children.start(name, command, log)

    def _router_ready(self) -> bool:
        if not self._port:
            found = _ANNOUNCEMENT.search((self._plan.folder / "router.log").read_text(encoding="utf-8"))
            if found is None:
                return False
            self._port, self._admin_port = int(found[1]), int(found[2])
        try:
            return self._ask("/readyz")[0] == 200
        except OSError:
            return False

    def _ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._plan.host, self._admin_port, timeout=2.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def _router_config(plan: Plan, gpus: list[EngineAddresses]) -> RouterConfig:
    backends = tuple(
        BackendAddress(
            model=engine.model,
            replica=engine.replica,
            address=engine.host,
            port=engine.port,
            served_model=engine.model,
        )
        for gpu in gpus
        for engine in gpu.engines
    )
    return RouterConfig(
        service=plan.name,
        listen=Listen(host=plan.host, port=plan.port),
        admin=Listen(host=plan.host, port=0),
        scenario=plan.scenario,
        backends=backends,
        load=plan.load,
        policy=plan.policy,
        fallback=plan.fallback,
    )


def curl_line(url: str, task: str) -> str:
    """A command that a person can paste."""
    body = json.dumps({"model": task, "prompt": "The capital of France is", "max_tokens": 16})
    return f"curl -i {url}/v1/completions -H 'content-type: application/json' -d '{body}'"
