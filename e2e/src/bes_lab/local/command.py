"""`bes local up FILE`: a whole service on this machine until Ctrl-C."""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from bes_api.command import Command
from bes_api.documents import the_service
from bes_api.engines import engine_types
from bes_api.quantities import parse_duration
from bes_api.router_config import clients_of
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService, PolicyType
from bes_lab.errors import ChildError, StartError, TargetError
from bes_lab.local.admin import status_line
from bes_lab.local.figures import Figures, figures_of
from bes_lab.local.plan import Plan
from bes_lab.local.policies import choice_of, name_of, own_policy
from bes_lab.local.prometheus import LocalPrometheus
from bes_lab.local.service import LocalService, curl_line

LOOK_SECONDS = 0.1
MAX_ROUTERS = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bes local`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    up = verbs.add_parser("up", help="start emulated GPUs and the router, serve until Ctrl-C")
    up.add_argument("file", type=Path, help="file with one BestEffortService (and the ConfigMaps that it names)")
    up.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    up.add_argument("--port", type=int, default=8000, help="the router's port (default 8000; 0: any free one)")
    up.add_argument(
        "--routers", type=int, default=1, metavar="N", help="routers, at that port and those after it (default 1)"
    )
    up.add_argument(
        "--prometheus",
        action=argparse.BooleanOptionalAction,
        help="load figures through a Prometheus that runs beside the rest (default: where the service asks for one "
        "and there is one on the PATH or in the cache of `make prometheus`)",
    )
    up.add_argument(
        "--scrape-interval",
        metavar="DURATION",
        help="of that Prometheus, such as 1s or 500ms (default: the service's, else 1s)",
    )
    up.add_argument(
        "--policy",
        metavar="NAME|FOLDER",
        help="instead of the service's: a rule (DeadlineAware, Priced, Threshold) or a model, with /PLACEMENT if "
        "wanted, an artifact's folder, or an installed policy's name",
    )
    up.add_argument(
        "--logs",
        type=Path,
        metavar="FOLDER",
        help="where logs go (default: a temporary folder that goes at the end, but stays where a process dies)",
    )
    up.add_argument("--decision-log", type=Path, metavar="FILE", help="the router writes every decision there")
    up.add_argument(
        "--json", action="store_true", help="print the addresses as a line of JSON when ready; all else goes to stderr"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM (exit code 0); a process that ends by itself ends everything (exit code 4)."""
    if not 0 <= arguments.port <= 65535:
        raise TargetError(f"--port {arguments.port}: expected 0 to 65535")
    if not 1 <= arguments.routers <= MAX_ROUTERS:
        raise TargetError(f"--routers {arguments.routers}: expected 1 to {MAX_ROUTERS}")
    if arguments.port + arguments.routers - 1 > 65535:
        raise TargetError(f"--port {arguments.port}: there are no {arguments.routers} ports from there on")
    service, profiles = the_service(arguments.file)
    scenario = scenario_of(service, profiles)
    policy, fallback = own_policy(service)
    if arguments.policy is not None:
        policy = choice_of(arguments.policy, scenario)
    figures = figures_of(service, arguments.prometheus, _seconds(arguments.scrape_interval))
    if arguments.scrape_interval and not isinstance(figures.load, LocalPrometheus):
        raise TargetError("--scrape-interval: that is a Prometheus' business; add --prometheus")
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # also where a shell started us in the background with SIGINT ignored
    with _logs(arguments.logs, service.name) as folder:
        plan = Plan(
            service.name,
            scenario,
            policy,
            fallback,
            figures.load,
            folder,
            arguments.host,
            arguments.port,
            arguments.decision_log,
            engine_types(service.spec),
            arguments.routers,
            clients_of(service),
        )
        sys.stderr.write(
            f"starting {_counted(len(scenario.gpus), 'emulated GPU')}, then the router: some seconds ...\n"
        )
        try:
            with LocalService(plan) as running:
                console = Console(highlight=False, soft_wrap=True, stderr=arguments.json)
                _explain(service, plan, running, figures, console, policy_is_given=arguments.policy is not None)
                print(_as_json(plan, running) if arguments.json else _curl(plan, running), flush=True)  # noqa: T201 - nothing may wrap these lines
                while True:
                    time.sleep(LOOK_SECONDS)
                    running.check()
        except KeyboardInterrupt:
            return 0


@contextlib.contextmanager
def _logs(named: Path | None, service: str) -> Iterator[Path]:
    """The folder named, or a temporary one that goes with us; it stays where a process died or did not start."""
    if named is not None:
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix=f"bes-{service}-"))
    try:
        yield folder
    except (ChildError, StartError):  # their words name logs in it
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text).total_seconds()
    except ValueError as error:
        raise TargetError(f"--scrape-interval: {error}") from None


def _explain(
    service: BestEffortService,
    plan: Plan,
    running: LocalService,
    figures: Figures,
    console: Console,
    *,
    policy_is_given: bool,
) -> None:
    scenario = plan.scenario
    names = ", ".join(f"{model.name} x{model.max_replicas}" for model in scenario.models)
    console.print(f"[bold]{service.name}[/]: {names} on {_counted(len(scenario.gpus), 'emulated GPU')}, a process each")
    console.print(
        "Every engine is emulated here and speaks its type's API: latency follows the profiles, text is filler."
    )
    console.print(f"policy {name_of(plan.policy)}")
    if service.spec.policy.type is PolicyType.LEARNED and not policy_is_given:
        console.print("  the service asks for Learned: until `--policy FOLDER` names an artifact its fallback decides")
    asked = service.spec.router.replicas
    if asked != plan.routers:
        console.print(
            f"  the service asks for {_counted(asked, 'router')}; {plan.routers} here (--routers {asked} for as many)"
        )
    console.print(f"load   figures come {figures.said}", markup=False)
    if running.prometheus_url is not None:
        console.print(f"  {running.prometheus_url}")
    console.print(f"tasks  {', '.join(task.name for task in scenario.tasks)} (name one as `model`)")
    console.print(f"logs   {plan.folder}", markup=False)
    for url, admin in zip(running.urls, running.admin_urls, strict=True):
        of = f" (of the router at {url})" if plan.routers > 1 else ""
        console.print(f"admin  {admin}/metrics{of}; behind a token /status, /load, /policy, /backends, /decisions/ID:")
        console.print(f"  {status_line(admin, running.token_file)}", markup=False)
    console.print(f"ready at {', '.join(running.urls)}; Ctrl-C ends everything. Try:")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _curl(plan: Plan, running: LocalService) -> str:
    return curl_line(running.url, plan.scenario.default_task)


def _as_json(plan: Plan, running: LocalService) -> str:
    return json.dumps(
        {
            "urls": list(running.urls),
            "admin_urls": list(running.admin_urls),
            "admin_token_file": str(running.token_file),
            "prometheus_url": running.prometheus_url,
            "policy": name_of(plan.policy),
            "tasks": [task.name for task in plan.scenario.tasks],
            "logs": str(plan.folder),
            "curl": _curl(plan, running),
        }
    )


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


LOCAL = Command("local", "run a service on this machine: emulated GPUs and the router", "lab", configure, run)
