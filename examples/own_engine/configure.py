"""Writes a router's configuration for engines that run somewhere: a service's file, and MODEL=HOST:PORT for each."""

import argparse
from collections import Counter
from pathlib import Path

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.documents import the_service
from bes_api.engines import ENGINES, engine_types
from bes_api.router_config import DeadlineAwarePolicy, Listen, RouterConfig
from bes_api.scenario_of import scenario_of


def configuration(file: Path, places: list[str], port: int) -> RouterConfig:
    """Each engine's health path and metric names come from what is known of its type."""
    service, profiles = the_service(file)
    types, replicas, backends = engine_types(service.spec), Counter[str](), []
    for place in places:
        model, _, address = place.partition("=")
        host, _, engine_port = address.rpartition(":")
        facts = ENGINES[types[model]]
        backends.append(
            BackendAddress(
                model=model,
                replica=replicas[model],
                address=host,
                port=int(engine_port),
                served_model=model,
                health_path=facts.health_path,
                gauges=facts.metrics.in_flight,
                finished=facts.metrics.finished,
            )
        )
        replicas[model] += 1
    return RouterConfig(
        service=service.name,
        listen=Listen(port=port),
        scenario=scenario_of(service, profiles),
        discovery=StaticBackends(backends=tuple(backends)),
        policy=DeadlineAwarePolicy(),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", type=Path)
    parser.add_argument("places", nargs="+", metavar="MODEL=HOST:PORT")
    parser.add_argument("--port", type=int, default=8000, help="of the router; 0: any free one")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    configuration(given.service, given.places, given.port).write(given.out)
