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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bes_api.command import exit_code_of
from bes_api.conditions import ConditionType
from bes_api.config_map import files_in
from bes_api.documents import the_service
from bes_api.output import prepare_folder
from bes_api.router_config import DeliveredPolicy, PolicyChoice, RouterConfig
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab import prediction
from bes_lab.clips import DEMO_CLIP
from bes_lab.cluster import devices
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.images import IMAGES, PROMETHEUS, TAG, the_builder
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
RELEASE, OPERATORS, NAMESPACE = "bes", "best-effort-serving", "demo"
SCRAPE_SECONDS = 5.0
MULTIPLE = 3.0
DRAWS = 5
START_SECONDS, TRAIN_SECONDS = 300.0, 1500.0
FIRST_BAR, FIDELITY_BAR, COLD_BAR = "<= 60", "<= 3", "<= 1800"
_ONE_REQUEST = (
    "import json, sys, urllib.request as u\n"
    "body = json.dumps({'model': sys.argv[2], 'prompt': 'hello', 'max_tokens': 4}).encode()\n"
    "asked = u.Request(sys.argv[1] + '/v1/completions', body, {'content-type': 'application/json'})\n"
    "u.urlopen(asked, timeout=5).close()\n"
)


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
    """The steps, on one cluster."""

    def __init__(self, file: Path, out: Path, console: Console) -> None:
        self._file, self._out, self._console = file, out, console
        self._service, profiles = the_service(file)
        self.scenario: Scenario = scenario_of(self._service, profiles)
        say = lambda line: console.print(f"== {line}", markup=False)  # noqa: E731 - what Kind and Native take
        self.cluster = Kind(the_state(), say) if docker_answers() else Native(the_state(), the_programs(), say)

    def prepare(self) -> None:
        """A cluster whose nodes say that they have the GPUs, and the images on it."""
        builder = the_builder()
        archives = [*(builder.archive(image) for image in IMAGES.values()), builder.prometheus()]
        self.cluster.up(1, devices.requested(self._service))
        for archive in archives:
            self._console.print(f"== loading {archive.name}", markup=False)
            self.cluster.load(archive)

    def install(self) -> float:
        """Seconds from `helm install` to the first request that is served through the routers' Service."""
        self._forget()
        began = time.monotonic()
        chart = checkout() / "charts" / "best-effort-serving"
        repository, _, tag = PROMETHEUS.rpartition(":")
        values = {
            "images.registry": "localhost",
            **{f"images.{room}.tag": TAG for room in IMAGES},
            "prometheus.image.repository": repository,
            "prometheus.image.tag": tag,
        }
        self._run(
            "helm", "install", RELEASE, str(chart), f"--namespace={OPERATORS}", "--create-namespace",
            *(f"--set-string={name}={value}" for name, value in values.items()),
            f"--set=prometheus.enabled=true,prometheus.scrapeSeconds={SCRAPE_SECONDS:g}",
        )  # fmt: skip
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.cluster.kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={self._file.resolve()}")
        self._until("a request was served", self._serves, START_SECONDS)
        return time.monotonic() - began

    def _serves(self) -> bool:
        if not (url := self._url()):
            return False
        request = self.cluster.inside(sys.executable, "-c", _ONE_REQUEST, url, self.scenario.default_task)
        return subprocess.run(request, capture_output=True, check=False).returncode == 0

    def _url(self) -> str:
        """By the Service's address: a node resolves no names of the cluster. "" until there is one."""
        name, address = f"{self._service.name}-router", "jsonpath={.spec.clusterIP}"
        asked = ("get", "service", name, f"--namespace={NAMESPACE}", f"--output={address}", "--ignore-not-found")
        found = self.cluster.kubectl(*asked).strip()
        return f"http://{found}:8080" if found else ""

    def _forget(self) -> None:
        """What an earlier demo installed on a cluster that is still up."""
        if f"namespace/{NAMESPACE}" in self.cluster.kubectl("get", "namespaces", "--output=name").split():
            self.cluster.kubectl("delete", "namespace", NAMESPACE)
        if RELEASE in self._run("helm", "list", f"--namespace={OPERATORS}", "--short").split():
            self._run("helm", "uninstall", RELEASE, f"--namespace={OPERATORS}", "--wait")

    def train(self) -> str:
        """Wait until the operator has judged the Job's artifact; the reason that PolicyReady gives."""
        shown = ""

        def settled() -> bool:
            nonlocal shown
            line = self.cluster.kubectl("get", "bes", f"--namespace={NAMESPACE}", "--no-headers").strip()
            said = self._policy_ready()
            if (told := f"{said['reason']}: {said['message']}") != shown:
                self._console.print(f"   {line}   {told}", markup=False)
                shown = told
            return str(said["status"]) == "True"

        self._until("the policy was judged", settled, TRAIN_SECONDS)
        return str(self._policy_ready()["reason"])

    def _policy_ready(self) -> dict[str, Any]:
        conditions = self._read("bes", self._service.name)["status"]["conditions"]
        return next(dict(each) for each in conditions if each["type"] == ConditionType.POLICY_READY)

    def burst(self) -> Burst:
        """Play the clip through the Service, from the node."""
        choice = self._choice()
        rate = MULTIPLE * prediction.base_rate(self.scenario)
        out = self._out / "replay"
        self._console.print(f"== {DEMO_CLIP} at {rate:.0f} requests/s on average under {name_of(choice)}", markup=False)
        given = (f"--service={self._file}", f"--rate={rate}", f"--out={out}", "--json")
        replay = self.cluster.inside(*bes("replay", DEMO_CLIP, self._url(), *given))
        replayed = subprocess.run(replay, capture_output=True, text=True, check=False)
        if not replayed.stdout.strip():
            raise ClusterError(f"the burst could not be played:\n{replayed.stderr.strip()[-1500:]}")
        trace = read(DEMO_CLIP)
        playing = Playing(usual_speed(trace), rate, trace.seed, (), None)
        arrivals = arrivals_of(trace, playing, self.scenario.tasks)
        generator = np.random.default_rng(0)
        routers = self._service.spec.router.replicas
        engines = sum(model.max_replicas for model in self.scenario.models)
        found = []
        for _ in range(DRAWS):
            figures = LoadFigures.old(routers, engines, SCRAPE_SECONDS, generator)
            polls = tuple(replace(poll, share=1.0) for poll in figures.polls)  # routers start knowing nobody else
            served_by = generator.integers(0, routers, arrivals.time.size)
            circumstances = Circumstances(figures=replace(figures, polls=polls))
            found.append(prediction.predict(self.scenario, arrivals, choice, served_by, circumstances))
        means = (float(np.mean([getattr(each, name) for each in found])) for name in Prediction.__annotations__)
        return Burst(name_of(choice), rate, json.loads(replayed.stdout), Prediction(*means))

    def _choice(self) -> PolicyChoice:
        """What the routers decide by: the configuration's own words, and the artifact that was delivered."""
        name = self._service.name
        configuration = RouterConfig.of_files(files_in(self._read("configmap", f"{name}-router")), "the cluster")
        if not isinstance(configuration.policy, DeliveredPolicy):
            return configuration.policy
        folder = self._out / "policy"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = files_in(self._read("configmap", f"{name}-active"))
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return artifact_choice(folder) if files else configuration.fallback

    def table(self) -> str:
        """`kubectl get bes`, as a person sees it."""
        return self.cluster.kubectl("get", "bes,pods", f"--namespace={NAMESPACE}")

    def _read(self, kind: str, name: str) -> dict[str, Any]:
        said = self.cluster.kubectl("get", kind, name, f"--namespace={NAMESPACE}", "--output=json")
        return dict(json.loads(said))

    def _run(self, *command: str) -> str:
        done = subprocess.run(self.cluster.inside(*command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"`{' '.join(command[:2])}` failed: {done.stderr.strip()}")
        return done.stdout

    def _until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > limit:
                raise ClusterError(f"gave up after {seconds:g} s of waiting until {what}:\n{self.table()}")
            time.sleep(0.2)


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
    demo = Demo(given.service, given.out, console)
    try:
        demo.prepare()
        first = demo.install()
        console.print(f"first request served {first:.1f} s after helm install began")
        console.print(f"policy: {demo.train()}", markup=False)
        burst = demo.burst()
        console.print(demo.table(), markup=False)
    finally:
        if not given.keep:
            demo.cluster.down()
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
