"""What to run on this machine, and the routers' configuration that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.engines import ENGINES
from bes_api.router_config import (
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
from bes_lab.local.prometheus import LocalPrometheus


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


def router_config(plan: Plan, gpus: Sequence[EngineAddresses], port: int, prometheus_url: str | None) -> RouterConfig:
    """The configuration of a router that listens at ``port`` (0: any free one)."""
    load = plan.load
    return RouterConfig(
        service=plan.name,
        listen=Listen(host=plan.host, port=port),
        admin=Listen(host=plan.host, port=0),
        scenario=plan.scenario,
        discovery=StaticBackends(backends=tuple(_backends(plan, gpus))),
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
