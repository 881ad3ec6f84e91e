"""A service on a cluster, what can be done to it by hand, and clients that ask it meanwhile."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bes_api.handover import dump_document, load_document
from bes_lab.cluster.installation import NAMESPACE, Installation
from bes_lab.cluster.native import Native
from bes_lab.errors import ClusterError
from bes_lab.faults.system import clients_command
from bes_lab.faults.traffic import Order, Tally
from bes_lab.local.children import Children

RATE = 20.0
"""Requests per second of the clients."""
HEAL_SECONDS, OUTAGE_SECONDS = 180.0, 10.0
AT_ONCE = ("--force", "--grace-period=0")


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

    def recreated(self, kind: str, name: str) -> float:
        """Delete an object and wait for another one of its name; the seconds between."""
        old = self.uid(kind, name)
        self.kubectl("delete", kind, name, "--wait=false")
        began = time.monotonic()
        self.on.until(f"{kind} {name} is there again", lambda: self.uid(kind, name) not in {"", old}, HEAL_SECONDS)
        return time.monotonic() - began

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
