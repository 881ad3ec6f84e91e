"""`bes local up FILE`: a whole service on this machine until Ctrl-C."""

import argparse
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from bes_api.command import Command
from bes_api.documents import the_service
from bes_api.router_config import DirectLoad
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService, PolicyType
from bes_lab.errors import ChildError, TargetError
from bes_lab.local.policies import choice_of, name_of, own_policy
from bes_lab.local.service import LocalService, Plan, curl_line

LOOK_SECONDS = 0.1


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes local`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    up = verbs.add_parser("up", help="start emulated GPUs and the router, serve until Ctrl-C")
    up.add_argument("file", type=Path, help="file with one BestEffortService (and the ConfigMaps that it names)")
    up.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    up.add_argument("--port", type=int, default=8000, help="the router's port (default 8000; 0: any free one)")
    up.add_argument(
        "--policy",
        metavar="NAME|FOLDER",
        help="instead of the service's: a rule (DeadlineAware, Priced, Threshold) or a model, with /PLACEMENT if "
        "wanted, or an artifact's folder",
    )
    up.add_argument(
        "--logs",
        type=Path,
        metavar="FOLDER",
        help="where logs go (default: a temporary folder that goes at the end, but stays where a process dies)",
    )
    up.add_argument("--decision-log", type=Path, metavar="FILE", help="the router writes every decision there")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM (exit code 0); a process that ends by itself ends everything (exit code 4)."""
    if not 0 <= arguments.port <= 65535:
        raise TargetError(f"--port {arguments.port}: expected 0 to 65535")
    service, profiles = the_service(arguments.file)
    scenario = scenario_of(service, profiles)
    policy, fallback = own_policy(service)
    if arguments.policy is not None:
        policy = choice_of(arguments.policy, scenario)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # also where a shell started us in the background with SIGINT ignored
    with _logs(arguments.logs, service.name) as folder:
        plan = Plan(
            service.name,
            scenario,
            policy,
            fallback,
            direct_load(service),
            folder,
            arguments.host,
            arguments.port,
            arguments.decision_log,
        )
        try:
            with LocalService(plan) as running:
                _explain(service, plan, running, policy_is_given=arguments.policy is not None)
                while True:
                    time.sleep(LOOK_SECONDS)
                    running.check()
        except KeyboardInterrupt:
            return 0


@contextlib.contextmanager
def _logs(named: Path | None, service: str) -> Iterator[Path]:
    """The folder named, or a temporary one that goes with us; it stays where a process died while it served.

    Of one that did not start the error tells all: its log's end.
    """
    if named is not None:
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix=f"bes-{service}-"))
    try:
        yield folder
    except ChildError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)


def direct_load(service: BestEffortService) -> DirectLoad:
    """The router's load source as the resource states it; stale after three intervals where it does not say."""
    load = service.spec.load
    interval = load.direct.interval.total_seconds() if load.direct else DirectLoad().interval_seconds
    stale = load.stale_after.total_seconds() if load.stale_after else 3 * interval
    return DirectLoad(interval_seconds=interval, stale_after_seconds=stale)


def _explain(service: BestEffortService, plan: Plan, running: LocalService, *, policy_is_given: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    scenario = plan.scenario
    names = ", ".join(f"{model.name} x{model.max_replicas}" for model in scenario.models)
    console.print(f"[bold]{service.name}[/]: {names} on {len(scenario.gpus)} emulated GPUs, a process each")
    console.print(
        "Every engine is emulated here, whatever its type says: latency follows the profiles, text is filler."
    )
    console.print(f"policy {name_of(plan.policy)}")
    if service.spec.policy.type is PolicyType.LEARNED and not policy_is_given:
        console.print("  the service asks for Learned: until `--policy FOLDER` names an artifact its fallback decides")
    if service.spec.router.replicas > 1:
        console.print(f"  the service asks for {service.spec.router.replicas} routers; one runs here")
    console.print(f"tasks  {', '.join(task.name for task in scenario.tasks)} (name one as `model`)")
    console.print(f"logs   {plan.folder}", markup=False)
    console.print(f"admin  {running.admin_url}/metrics")
    console.print(f"ready at {running.url}; Ctrl-C ends everything. Try:")
    print(curl_line(running.url, scenario.default_task), flush=True)  # noqa: T201 - nothing may wrap a command line


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


LOCAL = Command("local", "run a service on this machine: emulated GPUs and the router", "lab", configure, run)
