"""`bes engine`: one process that emulates one GPU."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from bes_api.command import Command
from bes_api.scenario import Scenario
from bes_api.service import EngineType
from bes_lab.engine.alone import alone
from bes_lab.engine.faults import KINDS, Fault, FaultError, names, read_fault
from bes_lab.engine.process import Serving, serve
from bes_lab.errors import TargetError
from bes_lab.scenario_file import read_scenario, read_served

_KINDS = "\n".join(f"  {name:<20}{kind.about}" for name, kind in zip(names(), KINDS, strict=True))
EPILOG = f"""\
Every engine speaks its type's API: /v1/completions, /v1/chat/completions, /v1/models, /health, /metrics and, as
text-generation-inference, /info. Text is filler, one word a token; probabilities are a seed's, not a model's; sampling
parameters are ignored, what would need a model is refused.

An engine misbehaves on command, at its own port while it runs:
  curl -X POST   http://HOST:PORT/emulated/fault -d '{{"kind": "busy", "status": 503, "share": 0.2, "for_seconds": 30}}'
  curl           http://HOST:PORT/emulated/fault      # what is in force, and how often it hit
  curl -X DELETE http://HOST:PORT/emulated/fault      # clears all
Kinds:
{_KINDS}
Each may have `for_seconds`; those that hit requests also `share` (0..1], `count`, `seed` and `on` (requests, health,
metrics, everything; default requests).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes engine`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG.replace("%", "%%")
    parser.add_argument("file", type=Path, help="a BestEffortService (YAML) or a scenario (JSON)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--gpu", type=int, default=0, help="which of the scenario's GPUs (default 0)")
    which.add_argument("--model", metavar="NAME", help="instead: one replica of this model, on a GPU of its own")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port of the first engine, the others follow; 0: free ones")
    parser.add_argument("--addresses", type=Path, help="file to write the engines' addresses to once they listen")
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="[MODEL=]TYPE",
        help=f"what every engine, or a model's, speaks ({', '.join(EngineType)}); may be repeated "
        "(default: the service's own types, Emulated for a scenario)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="[MODEL=]JSON",
        help="a fault in force from the start at every engine, or a model's; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    if arguments.engine:
        scenario = read_scenario(arguments.file)
        types = _types(arguments.engine, scenario)
    else:
        scenario, types = read_served(arguments.file)
    if arguments.model is not None:
        scenario = alone(scenario, arguments.model)
    if not 0 <= arguments.gpu < len(scenario.gpus):
        raise TargetError(f"--gpu {arguments.gpu}: the scenario has GPUs 0 to {len(scenario.gpus) - 1}")
    if not 0 <= arguments.port <= 65000:
        raise TargetError(f"--port {arguments.port}: expected 0 to 65000")
    faults = [_fault(given, scenario) for given in arguments.fault]
    serve(Serving(scenario, types, arguments.gpu, arguments.host, arguments.port, arguments.addresses, faults))
    return 0


def _types(given: Sequence[str], scenario: Scenario) -> Mapping[str, EngineType]:
    types: dict[str, EngineType] = {}
    for each in given:
        model, _, name = each.rpartition("=")
        if name not in list(EngineType):
            raise TargetError(f"--engine {each}: expected {', '.join(EngineType)}, for one model MODEL=TYPE")
        for wanted in [_model("--engine", model, scenario)] if model else [each.name for each in scenario.models]:
            types[wanted] = EngineType(name)
    return types


def _fault(given: str, scenario: Scenario) -> tuple[str | None, Fault]:
    model, _, command = given.partition("{")
    if model and not model.endswith("="):
        raise TargetError(f"--fault {given}: expected JSON, for one model's engines MODEL=JSON")
    try:
        fault = read_fault("{" + command)
    except FaultError as error:
        raise TargetError(f"--fault {given}: {error}") from None
    return (_model("--fault", model[:-1], scenario) if model else None), fault


def _model(option: str, name: str, scenario: Scenario) -> str:
    known = [model.name for model in scenario.models]
    if name not in known:
        raise TargetError(f"{option} {name}: no model of this scenario; it has {', '.join(known)}")
    return name


ENGINE = Command("engine", "emulate one GPU with every engine placed on it", "lab", configure, run)
