"""`bes engine`: one process that emulates one GPU."""

import argparse
from pathlib import Path

from bes_api.command import Command
from bes_lab.engine.process import Serving, serve
from bes_lab.errors import TargetError
from bes_lab.scenario_file import read_scenario


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes engine`."""
    parser.add_argument("file", type=Path, help="a BestEffortService (YAML) or a scenario (JSON)")
    parser.add_argument("--gpu", type=int, default=0, help="which of the scenario's GPUs (default 0)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port of the first engine, the others follow; 0: free ones")
    parser.add_argument("--addresses", type=Path, help="file to write the engines' addresses to once they listen")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    scenario = read_scenario(arguments.file)
    if not 0 <= arguments.gpu < len(scenario.gpus):
        raise TargetError(f"--gpu {arguments.gpu}: the scenario has GPUs 0 to {len(scenario.gpus) - 1}")
    if not 0 <= arguments.port <= 65000:
        raise TargetError(f"--port {arguments.port}: expected 0 to 65000")
    serve(Serving(scenario, arguments.gpu, arguments.host, arguments.port, arguments.addresses))
    return 0


ENGINE = Command("engine", "emulate one GPU with every engine placed on it", "lab", configure, run)
