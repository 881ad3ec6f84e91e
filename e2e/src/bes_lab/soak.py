"""`python -m bes_lab.soak --minutes N`: one router under steady load with a fault every ten seconds, for long.

What must stay flat (memory, descriptors) is sampled, and every request that clients sent is set against the router's
own account. The load is set so that the router uses the wanted share of a core, as far as this machine's clients and
emulated engines, which share its cores, can bring it there; what it came to is recorded.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil

from bes_api.command import exit_code_of
from bes_api.documents import the_service
from bes_api.handover import dump_document, load_document
from bes_api.output import prepare_folder
from bes_api.router_config import DirectLoad
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab.bench.processes import cpu_seconds, memory_megabytes
from bes_lab.errors import StartError, TargetError
from bes_lab.faults.campaign import Campaign, started
from bes_lab.faults.seen import SPOILED, Kind
from bes_lab.faults.steps import Step, all_steps
from bes_lab.faults.system import System, clients_command
from bes_lab.faults.traffic import Order, Tally
from bes_lab.local.children import Children
from bes_lab.local.prometheus import LocalPrometheus, find_prometheus
from bes_lab.results import RESULTS, Record, recorder, write

TOPIC = "soak"
COMMAND = "make soak"
ARTIFACT = Path("docs/results/policies/opt-paper/policy")
ROUTER = "router"
FAULT_EVERY_SECONDS = 10.0
HOLD_SECONDS = 2.0
SAMPLE_SECONDS = 2.0
CALIBRATION_SECONDS = 4.0
FIRST_RATE = 100.0
MOST_RATE = 2000.0
REST_SECONDS = 30.0
BAR_SHARE = 0.6


@dataclass
class Samples:
    """The router's memory and descriptors over the run; seconds from its start."""

    at: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def take(self, pid: int, now: float) -> None:
        """One sample."""
        self.at.append(now)
        self.megabytes.append(memory_megabytes(pid))
        self.descriptors.append(psutil.Process(pid).num_fds())

    def slope_per_hour(self, values: Sequence[float], warm: float) -> float:
        """Of a straight line through ``values`` after second ``warm``; NaN where there are too few."""
        at = np.asarray(self.at)
        later = at >= warm
        if later.sum() < 3:
            return float("nan")
        return float(np.polyfit(at[later] / 3600.0, np.asarray(values, dtype=float)[later], 1)[0])


@dataclass(frozen=True)
class Soaked:
    """What it came to."""

    minutes: float
    rate: float
    share_of_core: float
    faults: int
    tally: Tally
    counted: int
    in_flight: float
    descriptors_left: int
    slope_megabytes: float
    slope_descriptors: float
    megabytes: float


def soak(campaign: Campaign, steps: Sequence[Step], minutes: float, share: float) -> Soaked:
    """Run it. Raises StartError where a process ends, or something is not noticed in time."""
    with started(campaign) as system:
        pid = system.service.pids[ROUTER]
        rest = psutil.Process(pid).num_fds()
        rate = _calibrated(system, campaign, share)
        _say(f"{rate:.0f} requests/s; {minutes:g} minutes, a fault every {FAULT_EVERY_SECONDS:g} s")
        samples, counted, cpu = Samples(), system.figures(0).requests, cpu_seconds(pid)
        with _clients(system, rate, campaign.seed) as tallies:
            began = time.monotonic()
            faults = _under_faults(system, steps, samples, minutes * 60.0)
            used = (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
        in_flight, left = _at_rest(system, pid, rest)
        figures = system.figures(0)
    warm = minutes * 60.0 / 4.0
    return Soaked(
        minutes,
        rate,
        used,
        faults,
        tallies[0],
        figures.requests - counted,
        in_flight,
        left,
        samples.slope_per_hour(samples.megabytes, warm),
        samples.slope_per_hour(samples.descriptors, warm),
        samples.megabytes[-1],
    )


def _under_faults(system: System, steps: Sequence[Step], samples: Samples, seconds: float) -> int:
    pid, began, faults = system.service.pids[ROUTER], time.monotonic(), 0
    for step in cycle(steps):
        due = began + faults * FAULT_EVERY_SECONDS
        if due + FAULT_EVERY_SECONDS > began + seconds:
            break
        _sampled_until(samples, pid, began, due)
        _say(f"{time.monotonic() - began:6.0f} s  {step.title}")
        step.begin(system)
        _sampled_until(samples, pid, began, time.monotonic() + HOLD_SECONDS)
        step.end(system)
        faults += 1
    _sampled_until(samples, pid, began, began + seconds)
    return faults


def _sampled_until(samples: Samples, pid: int, began: float, until: float) -> None:
    while (now := time.monotonic()) < until:
        if not samples.at or now - began - samples.at[-1] >= SAMPLE_SECONDS:
            samples.take(pid, now - began)
        time.sleep(min(0.2, until - now))


def _calibrated(system: System, campaign: Campaign, share: float) -> float:
    """The rate at which the router uses ``share`` of a core, found in two steps."""
    pid, rate = system.service.pids[ROUTER], FIRST_RATE
    for number in range(2):
        before = cpu_seconds(pid)
        with _clients(system, rate, campaign.seed + 1000 + number):
            time.sleep(CALIBRATION_SECONDS / 2)
            before, at = cpu_seconds(pid), time.monotonic()
            time.sleep(CALIBRATION_SECONDS)
            used = (cpu_seconds(pid) - before) / (time.monotonic() - at)
        rate = min(MOST_RATE, rate * share / max(used, 0.005))
    return rate


@contextmanager
def _clients(system: System, rate: float, seed: int) -> Iterator[list[Tally]]:
    """Clients that only count; their tally is in the list after the context."""
    out, order = system.folder / f"tally-{seed}.json", system.folder / f"order-{seed}.json"
    tasks = tuple(task.name for task in system.plan.scenario.tasks)
    asked = Order(urls=tuple(system.service.urls), tasks=tasks, out=out, rate=rate, seed=seed, tally=True)
    dump_document(asked, order)
    tallies: list[Tally] = []
    with Children() as children:
        child = children.start("clients", clients_command(order), system.folder / f"clients-{seed}.log")
        yield tallies
        if code := children.signal(child, signal.SIGTERM):
            raise StartError(f"clients ended with exit code {code}:\n{child.tail()}")
    tallies.append(load_document(Tally, out))


def _at_rest(system: System, pid: int, rest: int) -> tuple[float, int]:
    """Requests in flight, and descriptors beyond those before, once they are gone or it has taken too long."""
    limit = time.monotonic() + REST_SECONDS
    while True:
        in_flight = system.figures(0).values["bes_router_in_flight"]
        left = psutil.Process(pid).num_fds() - rest
        if (not in_flight and left <= 0) or time.monotonic() > limit:
            return in_flight, left
        time.sleep(0.2)


def _records(found: Soaked, seed: int) -> list[Record]:
    made = recorder(COMMAND, seed, ("uvloop", "httptools", "aiohttp", "numpy"))
    kinds = Counter(found.tally.kinds)
    reached = sum(count for router, count in found.tally.sent.items() if router != "none")
    return [
        made.record("soak-minutes", "soak", found.minutes, "minutes", ">= 20"),
        made.record("soak-share", "soak: the router's use of a core", found.share_of_core, "", f">= {BAR_SHARE}"),
        made.record("soak-rate", "soak: requests a second, open loop, half of them streamed", found.rate, "/s"),
        made.record("soak-requests", "soak: requests", sum(kinds.values()), ""),
        made.record("soak-faults", "soak: faults, one every 10 s", found.faults, ""),
        made.record("soak-memory", "soak: the router's memory at the end (PSS)", found.megabytes, "MB", "<= 80"),
        made.record(
            "soak-slope", "soak: memory slope after a quarter of the time", found.slope_megabytes, "MB/h", "< 2"
        ),
        made.record("soak-descriptors", "soak: descriptors left at rest", found.descriptors_left, "", "<= 0"),
        made.record(
            "soak-unaccounted",
            "soak: requests that clients and router count differently",
            abs(reached - found.counted),
            "",
            "== 0",
        ),
        made.record("soak-in-flight", "soak: requests still counted in flight afterwards", found.in_flight, "", "== 0"),
        made.record(
            "soak-spoiled",
            "soak: answers torn or another request's",
            sum(kinds[kind] for kind in SPOILED),
            "",
            "== 0",
        ),
        made.record(
            "soak-failed",
            "soak: requests that were not answered, faults included",
            100.0 * (1.0 - kinds[Kind.ANSWERED] / max(1, sum(kinds.values()))),
            "%",
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every bar is met, 1 where one is not, 2 for what the caller can mend."""
    parser = argparse.ArgumentParser(prog="bes_lab.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="default %(default)g")
    parser.add_argument("--share", type=float, default=BAR_SHARE, help="of a core for the router (default %(default)g)")
    parser.add_argument("--service", type=Path, default=Path("examples/opt-paper.yaml"), help="default %(default)s")
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, help="the policy (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)d")
    parser.add_argument("--folder", type=Path, help="where logs stay (default: nowhere)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.soak", lambda: _main(given))


def _main(arguments: argparse.Namespace) -> int:
    if not 0.2 <= arguments.minutes <= 1440.0:
        raise TargetError(f"--minutes {arguments.minutes:g}: expected 0.2 to 1440")
    if not 0.01 <= arguments.share <= 1.0:
        raise TargetError(f"--share {arguments.share:g}: expected 0.01 to 1")
    scenario = scenario_of(*the_service(arguments.service))
    prepare_folder("--out", arguments.out)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="bes-soak-"))
    try:
        campaign = _campaign(arguments, scenario, folder)
        found = soak(campaign, _steps(scenario, campaign.load), arguments.minutes, arguments.share)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    for note in found.tally.notes[:10]:
        _say(f"    {note[:200]!r}")
    records = _records(found, arguments.seed)
    for record in records:
        _say(f"{'SHORT ' if record.met is False else '':<6}{record.claim}: {record.measured:.4g} {record.unit}")
    _say(f"recorded in {write(TOPIC, records, arguments.out)}")
    return 1 if any(record.met is False for record in records) else 0


def _steps(scenario: Scenario, load: DirectLoad | LocalPrometheus) -> list[Step]:
    """Every fault that leaves the router itself alive: it is the one that is watched."""
    steps = all_steps(scenario.models[-1].name, scenario.models[-1].max_replicas)
    has_prometheus = isinstance(load, LocalPrometheus)
    return [step for step in steps if step.ends_router is None and (has_prometheus or not step.needs_prometheus)]


def _campaign(arguments: argparse.Namespace, scenario: Scenario, folder: Path) -> Campaign:
    binary = find_prometheus()
    load = DirectLoad(interval_seconds=1.0) if binary is None else LocalPrometheus(binary, 1.0)
    return Campaign(scenario, folder, load, arguments.artifact, seed=arguments.seed, routers=1)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
