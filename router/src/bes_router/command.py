"""`bes router --config FILE|FOLDER`: route requests to the engines of one service until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from bes_api.command import Command
from bes_api.config_map import ROUTER_CONFIG
from bes_router.admin import OPTION, TokenFile
from bes_router.decision_log import DecisionLog
from bes_router.delivery import Delivery, Sources
from bes_router.discovery.api import ApiServer
from bes_router.running import RunningRouter


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bes router`."""
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE|FOLDER",
        help=f"router configuration, JSON or YAML, or a folder that holds it as {ROUTER_CONFIG}; a change is followed",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FOLDER", help="the artifact for policy Delivered; a change is followed"
    )
    parser.add_argument(
        "--candidate",
        type=Path,
        metavar="FOLDER",
        help="an artifact that decides some requests again, in shadow, and routes none; a change is followed",
    )
    parser.add_argument(
        OPTION, type=Path, metavar="FILE", help="file with the bearer token for /status and the like on the admin port"
    )
    parser.add_argument(
        "--decision-log",
        type=Path,
        metavar="FILE",
        help="write every decision with what it was taken from, a JSON line each (an existing file is replaced)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve; 0 if every request in flight was finished at the end, 1 if some were cut off."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    delivery = Delivery(Sources(arguments.config, arguments.policy, arguments.candidate))
    token, server = TokenFile(arguments.admin_token), ApiServer.of_pod(os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(delivery, token, arguments.decision_log, server))


async def serve(
    delivery: Delivery, token: TokenFile, decision_log: Path | None = None, server: ApiServer | None = None
) -> int:
    """Run a router until SIGTERM or SIGINT, then drain it. Returns the exit code."""
    first = delivery.first()
    config, loaded = first.config, first.loaded
    decisions = DecisionLog(decision_log, config.scenario, loaded.name) if decision_log else None
    running = RunningRouter(first, delivery, token, decisions, server)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await running.start()
        client, admin = running.ports
        print(  # noqa: T201 - what whoever started it waits for
            f"bes router: {config.service} on http://{config.listen.host}:{client}/v1"
            f" (policy {loaded.name}; admin http://{config.admin.host}:{admin})",
            flush=True,
        )
        await stop.wait()
        return 0 if await running.drain() else 1
    finally:
        await running.close()


ROUTER = Command(
    name="router",
    summary="route requests to the engines of one service",
    extra="router",
    configure=configure,
    run=run,
)
