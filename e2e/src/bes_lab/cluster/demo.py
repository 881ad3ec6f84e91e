"""`make cluster-demo`: a cluster, the chart, a service and its training, and a burst through the routers' Service.

Everything that the table says was measured on the cluster: pods scheduled by their GPUs, two routers behind a Service,
load figures from a Prometheus, a policy that a Job trained and the operator judged. The simulator's word stands beside.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bes_api.command import exit_code_of
from bes_api.conditions import ConditionType
from bes_api.config_map import files_in
from bes_api.output import prepare_folder
from bes_api.router_config import DeliveredPolicy, PolicyChoice, RouterConfig
from bes_lab import prediction
from bes_lab.clips import DEMO_CLIP
from bes_lab.cluster.installation import NAMESPACE, SCRAPE_SECONDS, Installation
from bes_lab.cluster.kind import Kind, docker_answers
from bes_lab.cluster.layout import the_state
from bes_lab.cluster.native import Native
from bes_lab.cluster.programs import the_programs
from bes_lab.errors import ClusterError
from bes_lab.local.children import bes
from bes_lab.local.policies import artifact_choice, name_of
from bes_lab.prediction import Prediction
from bes_lab.replay.report import write_json
from bes_lab.replay.trace import Playing, arrivals_of, read, usual_speed
from bes_lab.results import RESULTS, Recorder, recorder, write
from bes_training.simulation.circumstances import Circumstances, LoadFigures

TOPIC = "cluster"
COMMAND = "make cluster-demo"
SERVICE = Path("examples/kubernetes/opt-emulated-gpus.yaml")
MULTIPLE = 3.0
DRAWS = 5
ATTEMPTS = 3
TRAIN_SECONDS = 1500.0
FIRST_BAR, FIDELITY_BAR, COLD_BAR = "<= 60", "<= 3", "<= 1800"


@dataclass(frozen=True)
class Burst:
    """What the routers made of the clip, and what the simulator says of the same requests."""

    policy: str
    rate: float
    measured: dict[str, Any]
    predicted: Prediction

    @property
    def points_apart(self) -> float:
        """Measured and predicted performance, in points of peak."""
        return 100.0 * abs(float(self.measured["performance"]) - self.predicted.performance)


class Demo:
    """What is shown of an installation."""

    def __init__(self, on: Installation, out: Path, console: Console) -> None:
        self._on, self._out, self._console = on, out, console

    def train(self) -> str:
        """Wait until the operator has judged the Job's artifact; the reason that PolicyReady gives."""
        shown = ""

        def settled() -> bool:
            nonlocal shown
            line = self._on.cluster.kubectl("get", "bes", f"--namespace={NAMESPACE}", "--no-headers").strip()
            said = self._policy_ready()
            if (told := f"{said['reason']}: {said['message']}") != shown:
                self._console.print(f"   {line}   {told}", markup=False)
                shown = told
            return str(said["status"]) == "True"

        self._on.until("the policy was judged", settled, TRAIN_SECONDS)
        return str(self._policy_ready()["reason"])

    def _policy_ready(self) -> dict[str, Any]:
        conditions = self._on.read("bes", self._on.service.name)["status"]["conditions"]
        return next(dict(each) for each in conditions if each["type"] == ConditionType.POLICY_READY)

    def burst(self) -> Burst:
        """Play the clip through the Service, from the node; again where the run was invalid by its own lateness."""
        for _ in range(ATTEMPTS - 1):
            played = self._played()
            if played.measured["valid"]:
                return played
            self._console.print(f"invalid: {'; '.join(played.measured['invalid_because'])}; once more", markup=False)
        return self._played()

    def _played(self) -> Burst:
        choice = self._choice()
        rate = MULTIPLE * prediction.base_rate(self._on.scenario)
        out = self._out / "replay"
        self._console.print(f"== {DEMO_CLIP} at {rate:.0f} requests/s on average under {name_of(choice)}", markup=False)
        given = (f"--service={self._on.file}", f"--rate={rate}", f"--out={out}", "--json")
        replay = self._on.cluster.inside(*bes("replay", DEMO_CLIP, self._on.url(), *given))
        replayed = subprocess.run(replay, capture_output=True, text=True, check=False)
        if not replayed.stdout.strip():
            raise ClusterError(f"the burst could not be played:\n{replayed.stderr.strip()[-1500:]}")
        trace = read(DEMO_CLIP)
        playing = Playing(usual_speed(trace), rate, trace.seed, (), None)
        arrivals = arrivals_of(trace, playing, self._on.scenario.tasks)
        generator = np.random.default_rng(0)
        routers = self._on.service.spec.router.replicas
        engines = sum(model.max_replicas for model in self._on.scenario.models)
        found = []
        for _ in range(DRAWS):
            figures = LoadFigures.old(routers, engines, SCRAPE_SECONDS, generator)
            polls = tuple(replace(poll, share=1.0) for poll in figures.polls)  # routers start knowing nobody else
            served_by = generator.integers(0, routers, arrivals.time.size)
            circumstances = Circumstances(figures=replace(figures, polls=polls))
            found.append(prediction.predict(self._on.scenario, arrivals, choice, served_by, circumstances))
        means = (float(np.mean([getattr(each, name) for each in found])) for name in Prediction.__annotations__)
        return Burst(name_of(choice), rate, json.loads(replayed.stdout), Prediction(*means))

    def _choice(self) -> PolicyChoice:
        """What the routers decide by: the configuration's own words, and the artifact that was delivered."""
        name = self._on.service.name
        configuration = RouterConfig.of_files(files_in(self._on.read("configmap", f"{name}-router")), "the cluster")
        if not isinstance(configuration.policy, DeliveredPolicy):
            return configuration.policy
        folder = self._out / "policy"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = files_in(self._on.read("configmap", f"{name}-active"))
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return artifact_choice(folder) if files else configuration.fallback


def the_cluster(console: Console) -> Kind | Native:
    """Kind's where a Docker engine answers, else a native one."""

    def say(line: str) -> None:
        console.print(f"== {line}", markup=False)

    return Kind(the_state(), say) if docker_answers() else Native(the_state(), the_programs(), say)


def _show(burst: Burst, console: Console) -> None:
    table = Table("", "measured on the cluster", "simulator", title=f"{burst.policy} at {burst.rate:.0f} requests/s")
    for name, of in (("performance", "performance"), ("in time", "in_time")):
        table.add_row(f"{name} (share of peak)", f"{burst.measured[of]:.1%}", f"{getattr(burst.predicted, of):.1%}")
    console.print(table)
    if not burst.measured["valid"]:
        console.print(f"INVALID: {'; '.join(burst.measured['invalid_because'])}", markup=False)


def _record(made: Recorder, first: float, burst: Burst, seconds: float, results: Path) -> None:
    words = f"{burst.policy} through Service, kube-proxy and two routers, figures from a Prometheus every 5 s"
    apart = burst.points_apart if burst.measured["valid"] else None
    records = [
        made.record("first-request", "helm install to the first served request", first, "s", FIRST_BAR),
        made.record("fidelity", f"{words}: measured and simulated performance", apart, "points", FIDELITY_BAR),
        made.record("performance", words, 100.0 * burst.measured["performance"], "points of peak"),
        made.record("demo", "cluster, images, chart, training and burst", seconds, "s", COLD_BAR),
    ]
    write(TOPIC, records, results)


def main() -> int:
    """Exit code 0 when the burst was served by a policy that was judged."""
    parser = argparse.ArgumentParser(prog="bes_lab.cluster.demo", description=__doc__)
    parser.add_argument("--service", type=Path, default=SERVICE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/cluster-demo"), help="folder for the report")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help=f"write records there, such as {RESULTS}")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up; `bes cluster down` ends it")
    given = parser.parse_args()
    return exit_code_of("bes_lab.cluster.demo", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    prepare_folder("--out", given.out)
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    on = Installation(given.service, the_cluster(console), lambda line: console.print(f"== {line}", markup=False))
    demo = Demo(on, given.out, console)
    try:
        on.prepare()
        first = on.install()
        console.print(f"first request served {first:.1f} s after helm install began")
        console.print(f"policy: {demo.train()}", markup=False)
        burst = demo.burst()
        console.print(on.table(), markup=False)
    finally:
        if not given.keep:
            on.cluster.down()
    seconds = time.monotonic() - began
    _show(burst, console)
    report = {"first_request_seconds": first, "policy": burst.policy, "measured": burst.measured, "seconds": seconds}
    write_json({**report, "simulated_performance": burst.predicted.performance}, given.out / "report.json")
    console.print(
        f"{given.out / 'report.json'} and {given.out / 'replay'} written; {seconds:.0f} s in all", markup=False
    )
    if given.results is not None:
        _record(recorder(COMMAND, seed=0, packages=("kopf", "kubernetes")), first, burst, seconds, given.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
