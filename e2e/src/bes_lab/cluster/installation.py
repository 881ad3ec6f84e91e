"""The chart and one service, installed on a cluster, as whoever tries them out sees them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bes_api.documents import the_service
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_lab.cluster import devices
from bes_lab.cluster.checkout import checkout
from bes_lab.cluster.images import IMAGES, PROMETHEUS, the_builder
from bes_lab.cluster.kind import Kind
from bes_lab.cluster.native import Native
from bes_lab.errors import ClusterError

RELEASE, OPERATORS, NAMESPACE = "bes", "best-effort-serving", "demo"
SCRAPE_SECONDS = 5.0
START_SECONDS = 300.0

_ONE_REQUEST = (
    "import json, sys, urllib.request as u\n"
    "body = json.dumps({'model': sys.argv[2], 'prompt': 'hello', 'max_tokens': 4}).encode()\n"
    "asked = u.Request(sys.argv[1] + '/v1/completions', body, {'content-type': 'application/json'})\n"
    "answer = u.urlopen(asked, timeout=5)\n"
    "print(answer.headers['x-bes-policy'])\n"
)


class Installation:
    """A service of ``file``, with the operator that makes it real."""

    def __init__(self, file: Path, cluster: Kind | Native, say: Callable[[str], None]) -> None:
        self.file, self.cluster, self._say = file, cluster, say
        self.service, profiles = the_service(file)
        self.scenario: Scenario = scenario_of(self.service, profiles)

    def prepare(self, nodes: int = 1) -> None:
        """A cluster whose nodes say that they have the GPUs, and the images on it."""
        builder = the_builder()
        archives = [*(builder.archive(image) for image in IMAGES.values()), builder.prometheus()]
        self.cluster.up(nodes, devices.requested(self.service))
        for archive in archives:
            self._say(f"loading {archive.name}")
            self.cluster.load(archive)

    def install(self) -> float:
        """Seconds from `helm install` to the first request that is served through the routers' Service."""
        self._forget()
        began = time.monotonic()
        chart = checkout() / "charts" / "best-effort-serving"
        repository, _, tag = PROMETHEUS.rpartition(":")
        values = {
            "images.registry": "localhost",
            "prometheus.image.repository": repository,
            "prometheus.image.tag": tag,
        }
        self.run(
            "helm", "install", RELEASE, str(chart), f"--namespace={OPERATORS}", "--create-namespace",
            *(f"--set-string={name}={value}" for name, value in values.items()),
            f"--set=prometheus.enabled=true,prometheus.scrapeSeconds={SCRAPE_SECONDS:g}",
        )  # fmt: skip
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.cluster.kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={self.file.resolve()}")
        self.until("a request was served", self.serves, START_SECONDS)
        return time.monotonic() - began

    def serves(self) -> bool:
        """Whether a request through the routers' Service is answered."""
        return bool(self.decided_by())

    def decided_by(self) -> str:
        """The policy that decides a request through the routers' Service; "" where it is not answered."""
        if not (url := self.url()):
            return ""
        request = self.cluster.inside(sys.executable, "-c", _ONE_REQUEST, url, self.scenario.default_task)
        return subprocess.run(request, capture_output=True, text=True, check=False).stdout.strip()

    def url(self) -> str:
        """By the Service's address: a node resolves no names of the cluster. "" until there is one."""
        name, address = f"{self.service.name}-router", "jsonpath={.spec.clusterIP}"
        asked = ("get", "service", name, f"--namespace={NAMESPACE}", f"--output={address}", "--ignore-not-found")
        found = self.cluster.kubectl(*asked).strip()
        return f"http://{found}:8080" if found else ""

    def _forget(self) -> None:
        """What an earlier demo installed on a cluster that is still up."""
        if f"namespace/{NAMESPACE}" in self.cluster.kubectl("get", "namespaces", "--output=name").split():
            self.cluster.kubectl("delete", "namespace", NAMESPACE)
        if RELEASE in self.run("helm", "list", f"--namespace={OPERATORS}", "--short").split():
            self.run("helm", "uninstall", RELEASE, f"--namespace={OPERATORS}", "--wait")

    def table(self) -> str:
        """`kubectl get bes`, as a person sees it."""
        return self.cluster.kubectl("get", "bes,pods", f"--namespace={NAMESPACE}")

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """One object of the service's namespace."""
        said = self.cluster.kubectl("get", kind, name, f"--namespace={NAMESPACE}", "--output=json")
        return dict(json.loads(said))

    def run(self, *command: str) -> str:
        """Output of a program on the node. Raises ClusterError."""
        done = subprocess.run(self.cluster.inside(*command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"`{' '.join(command[:2])}` failed: {done.stderr.strip()}")
        return done.stdout

    def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Wait. Raises ClusterError when ``seconds`` are over."""
        limit = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > limit:
                raise ClusterError(f"gave up after {seconds:g} s of waiting until {what}:\n{self.table()}")
            time.sleep(0.2)
