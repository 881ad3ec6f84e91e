"""Reads what the lab is given: a BestEffortService in YAML, or the scenario that was made from one, in JSON."""

from collections.abc import Mapping
from pathlib import Path

from bes_api.documents import the_service
from bes_api.engines import engine_types
from bes_api.handover import load_document
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import EngineType


def read_scenario(path: Path) -> Scenario:
    """The scenario in ``path``. Raises what says where the file is wrong."""
    if path.suffix == ".json":
        return load_document(Scenario, path)
    return scenario_of(*the_service(path))


def read_served(path: Path) -> tuple[Scenario, Mapping[str, EngineType]]:
    """The scenario in ``path``, and the engine type per model; a scenario alone says none."""
    if path.suffix == ".json":
        return load_document(Scenario, path), {}
    service, profiles = the_service(path)
    return scenario_of(service, profiles), engine_types(service.spec)
