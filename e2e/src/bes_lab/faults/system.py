"""The service that is broken on purpose, as faults and judges reach it."""

import http.client
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bes_api.handover import dump_document
from bes_api.router_config import RouterConfig
from bes_lab.engine.process import EngineAddress
from bes_lab.errors import StartError
from bes_lab.faults.seen import SEEN, Seen
from bes_lab.faults.traffic import Order
from bes_lab.local.children import Children
from bes_lab.local.plan import Plan
from bes_lab.local.service import LocalService

LOOK_SECONDS = 0.02
RETURN_SECONDS = 60.0
"""A backend that failed is kept out for 5 s, for twice as long after each relapse, and then for a trial."""
NOTICE_SECONDS = 60.0
"""A router looks into its folders every second; a backend that relapses stays out for longer each time."""


@dataclass
class Figures:
    """One router's counters and gauges by name, summed over their labels, and requests by outcome."""

    values: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Every request that it gave an outcome."""
        return int(self.values["bes_router_requests_total"])

    @classmethod
    def of(cls, page: str) -> "Figures":
        """Read a metrics page."""
        found = cls()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found.values[sample.name] += sample.value  # type: ignore[assignment]  # a Counter adds floats as well
                if sample.name == "bes_router_requests_total":
                    found.outcomes[sample.labels["outcome"]] += int(sample.value)
        return found


@dataclass
class System:
    """``artifact`` is the folder that the routers' policy is read from, where there is one."""

    plan: Plan
    service: LocalService
    folder: Path
    artifact: Path | None = None

    @property
    def routers(self) -> range:
        """Their numbers."""
        return range(self.plan.routers)

    def engine(self, model: str, replica: int) -> EngineAddress:
        """Where that engine listens now."""
        for gpu in self.service.addresses:
            for engine in gpu.engines:
                if (engine.model, engine.replica) == (model, replica):
                    return engine
        raise ValueError(f"there is no engine {model}/{replica}")

    def misbehave(self, engine: EngineAddress, **fault: object) -> None:
        """Command a fault."""
        _command(engine, "POST", json.dumps(fault).encode())

    def behave(self, engine: EngineAddress) -> None:
        """End its faults, where they have not ended by themselves."""
        self.until(lambda: bool(_command(engine, "DELETE")), f"{engine.model} took a command")

    def hits(self, engine: EngineAddress) -> int:
        """Requests that its present faults hit."""
        return sum(int(fault["hits"]) for fault in json.loads(_command(engine, "GET"))["faults"])

    def wait_for_all(self) -> None:
        """Wait until no router keeps a backend out: one that is out cannot be seen to fail."""
        count = sum(len(gpu.engines) for gpu in self.service.addresses)
        self.until(
            lambda: all(self.figures(router).values["bes_router_backend_ready"] >= count for router in self.routers),
            "every backend was let in again",
            RETURN_SECONDS,
        )

    def figures(self, router: int) -> Figures:
        """What its metrics page says now. Raises OSError where it does not run."""
        return Figures.of(self.service.metrics(router))

    def each(self, said: Callable[[Figures], bool], what: str) -> None:
        """Wait until ``said`` holds for every router. Raises StartError."""
        self.until(lambda: all(said(self.figures(router)) for router in self.routers), what)

    def configure(self, change: Callable[[RouterConfig], RouterConfig]) -> None:
        """Write another configuration for every router, and wait until all have adopted it."""
        before = [self.figures(router).values["bes_router_deliveries_total"] for router in self.routers]
        for router in self.routers:
            path = self.service.config_file(router)
            change(RouterConfig.read(path)).write(path)

        def adopted() -> bool:
            now = [self.figures(router).values["bes_router_deliveries_total"] for router in self.routers]
            return all(new > old for new, old in zip(now, before, strict=True))

        self.until(adopted, "the routers adopted a configuration")

    def until(self, holds: Callable[[], bool], what: str, seconds: float = NOTICE_SECONDS) -> float:
        """Seconds until ``holds()``. Raises StartError when ``seconds`` are over."""
        began = time.monotonic()
        while True:
            try:
                if holds():
                    return time.monotonic() - began
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > began + seconds:
                raise StartError(f"{what}: not within {seconds:g} s; logs in {self.plan.folder}")
            time.sleep(LOOK_SECONDS)

    @contextmanager
    def clients(self, rate: float, seed: int) -> Iterator[list[Seen]]:
        """Clients while the context lasts; what they saw is in the list after it."""
        out, order = self.folder / f"seen-{seed}.json", self.folder / f"order-{seed}.json"
        seen: list[Seen] = []
        tasks = tuple(task.name for task in self.plan.scenario.tasks)
        dump_document(Order(urls=tuple(self.service.urls), tasks=tasks, out=out, rate=rate, seed=seed), order)
        with Children() as children:
            command = clients_command(order)
            child = children.start("clients", command, self.folder / f"clients-{seed}.log")
            requests = sum(self.figures(router).requests for router in self.routers)
            self.until(
                lambda: sum(self.figures(router).requests for router in self.routers) > requests,
                f"clients were answered ({child.log})",
            )
            yield seen
            code = children.signal(child, signal.SIGTERM)
            if code:
                raise StartError(f"clients ended with exit code {code}:\n{child.tail()}")
        seen += SEEN.validate_json(out.read_bytes())


def clients_command(order: Path) -> tuple[str, ...]:
    """The command line of the clients' process."""
    return (sys.executable, "-P", "-m", "bes_lab.faults.traffic", str(order))


def _command(engine: EngineAddress, method: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=2.0)
    try:
        connection.request(method, "/emulated/fault", body)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise ValueError(f"an engine refused a command: {said.decode('utf-8', 'replace')}")
        return said
    finally:
        connection.close()
