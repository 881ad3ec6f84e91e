"""`python -m bes_training job ORDER`: train as ordered, judge on the test workloads, leave one ConfigMap.

The artifact's digest goes into the pod's termination message: only what a pod of its own Job said there does the
operator accept. SIGTERM ends the training so that the same pod goes on with it when it is started again.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bes_api.config_map import data_digest
from bes_api.errors import BestEffortError
from bes_api.output import prepare_folder, unwritable
from bes_api.service import Training
from bes_api.training_order import TrainingOrder
from bes_training.evaluation.command import Terms, judge
from bes_training.job.creation import APIServer, create
from bes_training.job.packing import config_map, pack
from bes_training.learning.command import train_into
from bes_training.learning.settings import TrainingSettings
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part

TERMINATION_LOG = Path("/dev/termination-log")
MESSAGE_BYTES = 4096  # kubelet reads no more
SHORT_DECISIONS = 100_000
"""Below that a training is a demonstration: it is searched and judged on fewer requests, too."""
SHORT_TRACES, SHORT_REQUESTS, SHORT_VALIDATION, SHORT_JUDGED = 48, 1_000, 2_000, 4_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the Job's container."""
    parser.add_argument("order", type=Path, help="the order, as the operator wrote it")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="journal; resumes there")
    parser.add_argument("--job-name", required=True, help="the Job that owns the artifact at first")
    parser.add_argument("--job-uid", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="default: %(default)s")


def run(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """0 once the artifact is there and its digest said. BestEffortError, said as well: a person must mend something."""
    try:
        digest = train_and_deliver(arguments, APIServer.of(environment))
    except BestEffortError as error:
        _say_last(arguments.termination_log, str(error))
        raise
    _say_last(arguments.termination_log, digest)
    return 0


def train_and_deliver(arguments: argparse.Namespace, server: APIServer) -> str:
    """The digest of the artifact, which is in the cluster then. Raises BestEffortError and KeyboardInterrupt."""
    order = TrainingOrder.read(arguments.order)
    prepare_folder("--work", arguments.work)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    settings = settings_of(order, max(1, arguments.threads))
    console.print(f"scenario {order.scenario.content_hash()}")
    trained = train_into(order.scenario, settings, arguments.work, console)
    report = judge(order.scenario, [str(trained.policy)], terms_of(settings), console).report
    files = pack(trained.policy, report)
    owner = {"name": arguments.job_name, "uid": arguments.job_uid}
    digest = data_digest(files)
    console.print(f"artifact {digest}, {sum(map(len, files.values())):,} bytes")
    create(config_map(files, order.artifact, owner), server, say=console.print)
    return digest


def settings_of(order: TrainingOrder, threads: int) -> TrainingSettings:
    """What the order asks for; fewer decisions than usual are called shortened, whoever asked for them."""
    settings = TrainingSettings(
        learner=order.learner,
        decisions=order.decisions,
        seeds=tuple(range(1, order.seeds + 1)),
        threads=threads,
        shortened=order.decisions < Training().decisions,
    )
    if order.decisions >= SHORT_DECISIONS:
        return settings
    return replace(settings, traces=SHORT_TRACES, requests=SHORT_REQUESTS, validation_requests=SHORT_VALIDATION)


def terms_of(settings: TrainingSettings) -> Terms:
    """The test workloads, all of them; a short training is judged on the beginning of one realisation of each."""
    judged, validation = load_suite(Part.TEST), load_suite(Part.VALIDATION)
    if settings.decisions >= SHORT_DECISIONS:
        return Terms(judged, validation, threads=settings.threads)
    judged, validation = (each.model_copy(update={"seeds": each.seeds[:1]}) for each in (judged, validation))
    return Terms(judged, validation, threads=settings.threads, max_requests=SHORT_JUDGED)


def _say_last(log: Path, message: str) -> None:
    """Into the container's status, where the operator reads it."""
    try:
        log.write_bytes(message.encode()[:MESSAGE_BYTES])
    except OSError as error:
        raise unwritable(f"--termination-log {log}", error) from error
