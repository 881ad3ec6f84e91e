"""`make cluster-healing`: what a service on a cluster goes through while clients ask, and what they see of it.

Each phase does one thing to the installation, waits until everything is again as desired, and counts how every request
ended that was sent meanwhile. Clients send through the routers' Service, from the node.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bes_api.command import exit_code_of
from bes_api.handover import dump_document, load_document
from bes_lab.cluster.demo import SERVICE, TOPIC, the_cluster
from bes_lab.cluster.installation import NAMESPACE, OPERATORS, RELEASE, Installation
from bes_lab.cluster.native import Native
from bes_lab.errors import ClusterError, TargetError
from bes_lab.faults.seen import Kind as Ending
from bes_lab.faults.system import clients_command
from bes_lab.faults.traffic import Order, Tally
from bes_lab.local.children import Children
from bes_lab.results import RESULTS, Record, Recorder, recorder, write

COMMAND = "make cluster-healing"
RATE = 20.0
BEFORE_SECONDS, AFTER_SECONDS, HEAL_SECONDS = 2.0, 4.0, 180.0
OUTAGE_SECONDS, KILLED_SECONDS = 10.0, 3.0
NOTHING = "== 0"
COUNTED = None
AT_ONCE = ("--force", "--grace-period=0")
API_SERVER, ETCD = "kube-apiserver", "etcd"


@dataclass(frozen=True)
class Phase:
    """One thing that happens; ``bar`` is for requests that were not answered, None where they are only counted."""

    name: str
    title: str
    act: Callable[["Stage"], None]
    bar: str | None = NOTHING


@dataclass(frozen=True)
class Outcome:
    """What came of a phase."""

    phase: Phase
    tally: Tally
    healed_seconds: float

    @property
    def answered(self) -> int:
        """Requests that were answered as they should be."""
        return self.tally.kinds.get(Ending.ANSWERED, 0)

    @property
    def others(self) -> int:
        """Requests that were not."""
        return sum(self.tally.kinds.values()) - self.answered


class Stage:
    """The installation, and what phases do to it."""

    def __init__(self, on: Installation, folder: Path) -> None:
        self.on, self._folder = on, folder
        self.name = on.service.name
        self.twins = [model.name for model in on.scenario.models if model.max_replicas > 1]

    def kubectl(self, *arguments: str) -> str:
        """In the service's namespace."""
        return self.on.cluster.kubectl(*arguments, f"--namespace={NAMESPACE}")

    def names(self, kind: str, selector: str) -> list[str]:
        """Of the service's objects with these labels."""
        chosen = f"--selector=besteffort.dev/service={self.name},{selector}"
        return self.kubectl("get", kind, chosen, "--output=jsonpath={.items[*].metadata.name}").split()

    def deployment(self, model: str) -> str:
        """The name of a model's Deployment."""
        told = self.on.read("bes", self.name)["status"]["models"]
        return next(str(each["deploymentName"]) for each in told if each["name"] == model)

    def roll(self, deployment: str) -> None:
        """Replace every pod, as `kubectl rollout restart` does."""
        self.kubectl("rollout", "restart", f"deployment/{deployment}")
        self.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=180s")

    def delete_in_turn(self, selector: str, *how: str) -> None:
        """Every pod with these labels, one at a time; the next when all are ready again."""
        for pod in self.names("pods", selector):
            self.kubectl("delete", "pod", pod, *how)
            self.on.until(f"{pod} was replaced", self.whole, HEAL_SECONDS)

    def kill(self, pod: str) -> None:
        """End a pod's processes at once."""
        self.kubectl("delete", "pod", pod, *AT_ONCE)

    def recreated(self, kind: str, name: str) -> None:
        """Delete an object and wait for another one of its name."""
        old = self.uid(kind, name)
        self.kubectl("delete", kind, name, "--wait=false")
        self.on.until(f"{kind} {name} is there again", lambda: self.uid(kind, name) not in {"", old}, HEAL_SECONDS)

    def uid(self, kind: str, name: str) -> str:
        """ "" where there is no such object."""
        return self.kubectl("get", kind, name, "--ignore-not-found", "--output=jsonpath={.metadata.uid}").strip()

    def routers_as_asked(self) -> bool:
        """Whether the routers' Deployment asks for as many as the service does."""
        found = self.on.read("deployment", f"{self.name}-router")["spec"]["replicas"]
        return bool(found == self.on.service.spec.router.replicas)

    def patch(self, document: str) -> None:
        """Change the service."""
        self.kubectl("patch", "bes", self.name, "--type=merge", f"--patch={document}")

    def whole(self) -> bool:
        """Whether everything that is desired is there, of the generation that is asked for."""
        stored = self.on.read("bes", self.name)
        told = stored.get("status", {})
        ready = {each["type"]: each["status"] for each in told.get("conditions", ())}.get("Ready")
        current = told.get("observedGeneration") == stored["metadata"]["generation"]
        pods = self.on.cluster.kubectl(
            "get", "deployments", f"--namespace={NAMESPACE}", "--output="
            "jsonpath={range .items[*]}{.spec.replicas},{.status.updatedReplicas},{.status.readyReplicas},"
            "{.status.replicas};{end}",
        )  # fmt: skip
        same = all(len(set(each.split(","))) == 1 for each in pods.strip(";").split(";") if each)
        return ready == "True" and current and same

    def outage(self, daemon: str) -> None:
        """Kill a part of the control plane, and start it again."""
        cluster = self.on.cluster
        if not isinstance(cluster, Native):
            raise ClusterError(f"{daemon} can only be killed on a native cluster")
        cluster.daemons.end(daemon, signal.SIGKILL)
        time.sleep(OUTAGE_SECONDS)
        cluster.daemons.start_again(daemon)
        self.on.until(f"{daemon} answers again", self._answers, HEAL_SECONDS)

    def _answers(self) -> bool:
        try:
            return self.on.cluster.kubectl("get", "--raw=/readyz").strip() == "ok"
        except ClusterError:
            return False

    @contextmanager
    def clients(self, seed: int) -> Iterator[list[Tally]]:
        """Clients that ask all the while; their tally is in the list after the context."""
        out, order = self._folder / f"tally-{seed}.json", self._folder / f"order-{seed}.json"
        tasks = tuple(task.name for task in self.on.scenario.tasks)
        dump_document(Order(urls=(self.on.url(),), tasks=tasks, out=out, rate=RATE, seed=seed, tally=True), order)
        tallies: list[Tally] = []
        with Children() as children:
            command = self.on.cluster.inside(*clients_command(order))
            child = children.start("clients", command, self._folder / f"clients-{seed}.log")
            yield tallies
            if code := children.signal(child, signal.SIGTERM):
                raise ClusterError(f"clients ended with exit code {code}:\n{child.tail()}")
        tallies.append(load_document(Tally, out))


def _policy_and_back(stage: Stage) -> None:
    model = stage.on.scenario.models[0].name
    stage.patch(f'{{"spec": {{"policy": {{"type": "Static", "static": {{"model": "{model}"}}}}}}}}')
    stage.on.until("the other policy decides", stage.whole, HEAL_SECONDS)
    stage.patch('{"spec": {"policy": {"type": "DeadlineAware", "static": null}}}')


def _scaled(stage: Stage) -> None:
    asked = stage.on.service.spec.router.replicas
    for replicas in (asked + 1, asked):
        stage.patch(f'{{"spec": {{"router": {{"replicas": {replicas}}}}}}}')
        stage.on.until(f"there are {replicas} routers", stage.whole, HEAL_SECONDS)


def _without_prometheus(stage: Stage) -> None:
    name = f"{RELEASE}-best-effort-serving-prometheus"
    for replicas in (0, 1):
        stage.on.cluster.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}", f"--namespace={OPERATORS}")
        time.sleep(OUTAGE_SECONDS)


def _leader_killed(stage: Stage) -> None:
    operators = (f"--namespace={OPERATORS}",)
    lease = stage.on.cluster.kubectl("get", "lease", "--output=jsonpath={.items[*].spec.holderIdentity}", *operators)
    stage.on.cluster.kubectl(
        "delete", "pod", lease.split("_", maxsplit=1)[0], "--force", "--grace-period=0", *operators
    )
    time.sleep(KILLED_SECONDS)  # the kubelet ends it: it must not be the one that heals
    stage.recreated("configmap", f"{stage.name}-router")


def phases() -> list[Phase]:
    """In order; those that cut connections come last."""
    router, engine = "besteffort.dev/component=router", "besteffort.dev/component=engine"

    def by_hand(stage: Stage) -> None:
        stage.kubectl("set", "env", f"deployment/{stage.name}-router", "--containers=router", "BY_HAND=1")
        stage.kubectl("scale", f"deployment/{stage.name}-router", "--replicas=1")
        stage.on.until("what was scaled by hand is undone", stage.routers_as_asked, HEAL_SECONDS)

    def rights(stage: Stage) -> None:
        for kind in ("rolebinding", "serviceaccount", "poddisruptionbudget"):
            stage.recreated(kind, f"{stage.name}-router")

    return [
        Phase("router-rollout", "the routers are replaced", lambda stage: stage.roll(f"{stage.name}-router")),
        Phase("model-rollout", "a model with two replicas is replaced", lambda s: s.roll(s.deployment(s.twins[0]))),
        Phase("engine-pods", "every engine's pod is deleted, one at a time", lambda s: s.delete_in_turn(engine)),
        Phase("router-pods", "every router's pod is deleted, one at a time", lambda s: s.delete_in_turn(router)),
        Phase("by-hand", "the routers' Deployment is edited and scaled by hand", by_hand),
        Phase("configuration", "the configuration is deleted", lambda s: s.recreated("configmap", f"{s.name}-router")),
        Phase("policy-folder", "the policy is deleted", lambda s: s.recreated("configmap", f"{s.name}-active")),
        Phase("rights", "binding, account and disruption budget are deleted", rights),
        Phase("policy-switch", "another policy, and back", _policy_and_back),
        Phase("router-scale", "a router more is asked for, and one less again", _scaled),
        Phase("leader", "the leading operator is killed, and a child deleted", _leader_killed),
        Phase("prometheus", "Prometheus is gone and comes back", _without_prometheus),
        Phase("api-server", "kill -9 of the API server", lambda stage: stage.outage(API_SERVER)),
        Phase("etcd", "kill -9 of etcd", lambda stage: stage.outage(ETCD)),
        Phase(
            "engine-killed", "an engine of two is killed at once",
            lambda stage: stage.kill(stage.names("pods", engine)[-1]),
            COUNTED,
        ),
        Phase(
            "router-killed", "a router of two is killed at once",
            lambda stage: stage.kill(stage.names("pods", router)[0]),
            COUNTED,
        ),
        Phase(
            "router-deployment", "the routers' Deployment is deleted",
            lambda stage: stage.recreated("deployment", f"{stage.name}-router"), COUNTED,
        ),
    ]  # fmt: skip


def carry_out(stage: Stage, phase: Phase, seed: int) -> Outcome:
    """Let it happen under traffic."""
    with stage.clients(seed) as tallies:
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        phase.act(stage)
        stage.on.until("everything is as desired again", stage.whole, HEAL_SECONDS)
        healed = time.monotonic() - began
        time.sleep(AFTER_SECONDS)
    return Outcome(phase, tallies[0], healed)


def records_of(made: Recorder, outcomes: Sequence[Outcome]) -> Iterator[Record]:
    """Requests that were not answered, and how long each phase took."""
    for each in outcomes:
        name, title = each.phase.name, each.phase.title
        claim = f"{title}: requests not answered, of {each.answered + each.others}"
        yield made.record(f"healing.{name}.failed", claim, each.others, "requests", each.phase.bar)
        yield made.record(f"healing.{name}.seconds", f"{title}: until all was as desired", each.healed_seconds, "s")


def main() -> int:
    """Exit code 0 where every bar is met, 1 where one is not."""
    parser = argparse.ArgumentParser(prog="bes_lab.cluster.healing", description=__doc__)
    parser.add_argument("--service", type=Path, default=SERVICE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--only", metavar="PHASE,...", help=f"of {', '.join(each.name for each in phases())}")
    parser.add_argument("--installed", action="store_true", help="on the cluster and installation that are there")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up; `bes cluster down` ends it")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help=f"write records there, such as {RESULTS}")
    given = parser.parse_args()
    return exit_code_of("bes_lab.cluster.healing", lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    chosen = [phase for phase in phases() if not given.only or phase.name in given.only.split(",")]
    if not chosen:
        raise TargetError(f"--only {given.only}: no such phase; there are {', '.join(each.name for each in phases())}")
    on = Installation(given.service, the_cluster(console), lambda line: console.print(f"== {line}", markup=False))
    outcomes = []
    try:
        if not given.installed:
            on.prepare()
            on.install()
        with tempfile.TemporaryDirectory(prefix="bes-healing-") as folder:
            stage = Stage(on, Path(folder))
            stage.patch('{"spec": {"policy": {"type": "DeadlineAware"}}}')
            on.until("everything is as desired", stage.whole, HEAL_SECONDS)
            for number, phase in enumerate(chosen):
                outcomes.append(carry_out(stage, phase, number + 1))
                _tell(outcomes[-1], console)
    finally:
        if not given.keep:
            on.cluster.down()
    made = recorder(COMMAND, seed=1, packages=("kopf", "kubernetes"))
    records = list(records_of(made, outcomes))
    if given.results is not None:
        write(TOPIC, records, given.results)
    return 1 if any(record.met is False for record in records) else 0


def _tell(outcome: Outcome, console: Console) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.tally.kinds.items()))
    short = "SHORT " if outcome.phase.bar and outcome.others else ""
    console.print(f"{short}{outcome.phase.title}: {kinds}; whole after {outcome.healed_seconds:.1f} s", markup=False)
    for note in outcome.tally.notes[:5]:
        console.print(f"    {note[:200]}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
