"""Reads what the lab is given: a BestEffortService in YAML, or the scenario that was made from one, in JSON."""

from pathlib import Path

from bes_api.documents import the_service
from bes_api.handover import load_document
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of


def read_scenario(path: Path) -> Scenario:
    """The scenario in ``path``. Raises what says where the file is wrong."""
    if path.suffix == ".json":
        return load_document(Scenario, path)
    return scenario_of(*the_service(path))
