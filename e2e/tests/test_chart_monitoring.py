"""Alerts, dashboard and the chart's own Prometheus: they speak of metrics that exist, and find the pods they should."""

import contextlib
import http.server
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import EVERYTHING, NAMESPACE, NAMESPACED, ROOT, Object, of_kind, one, pods, render

from bes_lab.cluster.programs import the_programs
from bes_lab.local.prometheus import command_line, find_prometheus, port_in
from bes_operator.labels import Component, child_labels
from bes_operator.metrics import Metrics

SUFFIXES = r"(_total|_bucket|_count|_sum)?$"
PROMETHEUS = "best-effort-serving-prometheus"


def exposed() -> set[str]:
    """Names of metrics, without the endings that their kinds bring, of operator and router."""
    names = set(re.findall(r"^# TYPE (\w+)", Metrics().text().decode(), flags=re.MULTILINE)) | {
        "bes_operator_condition"
    }
    for path in (ROOT / "router" / "src" / "bes_router").rglob("*.py"):
        names |= set(re.findall(r'"(bes_router_\w+)"', path.read_text()))
    return {re.sub(SUFFIXES, "", name) for name in names}


def spoken_of(text: str) -> set[str]:
    return {re.sub(SUFFIXES, "", name) for name in re.findall(r"\b(?:bes_\w+|process_\w+_seconds)", text)}


def alerts() -> list[Object]:
    (rule,) = of_kind(render(EVERYTHING), "PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


def test_alerts_and_dashboard_speak_of_metrics_that_operator_and_router_have() -> None:
    dashboard = (ROOT / "charts" / "best-effort-serving" / "files" / "dashboard.json").read_text()
    in_alerts = spoken_of(" ".join(each["expr"] for each in alerts()))
    assert len(in_alerts) >= 6
    assert in_alerts <= exposed()
    in_dashboard = spoken_of(dashboard)
    assert len(in_dashboard) >= 12
    assert in_dashboard <= exposed()


def test_every_alert_has_a_severity_and_says_what_is_wrong_and_what_to_do() -> None:
    for each in alerts():
        assert each["labels"]["severity"] in {"info", "warning", "critical"}
        assert {"summary", "description"} <= each["annotations"].keys()
        for label in re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"]):
            kept = re.search(r"by \(([^)]*)\)", each["expr"])
            assert kept is None or label in kept[1].split(", "), each["alert"]


def test_the_charts_own_prometheus_has_the_same_alerts() -> None:
    stored = one(render(EVERYTHING), "ConfigMap", PROMETHEUS)["data"]["alerts.yml"]
    assert [each for group in yaml.safe_load(stored)["groups"] for each in group["rules"]] == alerts()


def test_the_dashboard_is_whole_json_with_panels_that_do_not_overlap() -> None:
    stored = one(render(EVERYTHING), "ConfigMap", "best-effort-serving-dashboard")
    assert stored["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(stored["data"]["best-effort-serving.json"])["panels"]
    places = {(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels}
    assert len(places) == len(panels) == len({each["id"] for each in panels})


def test_a_prometheus_operator_selects_our_service_and_the_pods_that_have_figures() -> None:
    objects = render(NAMESPACED)
    (monitor,) = of_kind(objects, "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    chosen = [each for each in of_kind(objects, "Service") if selector.items() <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in chosen] == ["best-effort-serving"]
    assert monitor["spec"]["endpoints"][0]["port"] in {each["name"] for each in chosen[0]["spec"]["ports"]}
    (pod_monitor,) = of_kind(objects, "PodMonitor")
    assert pod_monitor["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    ports = {each["relabelings"][0]["regex"]: each["port"] for each in pod_monitor["spec"]["podMetricsEndpoints"]}
    assert ports == {"engine": "http", "router": "admin"}


# The rest runs a real Prometheus with the chart's configuration, and stands in for pods and for their list.

METRICS = """
vllm:num_requests_running 3
bes_router_backend_ready{model="opt-1.3b",replica="0"} 0
bes_operator_condition{service_namespace="team-a",service="opt",condition="Stalled",status="True",reason="NameTaken"} 1
"""


def pod(name: str, labels: Mapping[str, str], ports: Mapping[str, int], phase: str = "Running") -> Object:
    named = [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "uid": name, "resourceVersion": "1", "labels": dict(labels)},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "i", "ports": named}]},
        "status": {"phase": phase, "podIP": "127.0.0.1", "hostIP": "127.0.0.1"},
    }


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """A label selector of equalities and sets."""
    for name, operator, values in re.findall(r"([^\s,=!]+)\s*(=|\bin\b)\s*(\([^)]*\)|[^,]*)", selector):
        allowed = values.strip("()").split(",") if operator == "in" else [values]
        if labels.get(name) not in [value.strip() for value in allowed]:
            return False
    return True


class Cluster(http.server.BaseHTTPRequestHandler):
    """Lists pods as the API server does; every other path is a pod's metrics page."""

    pods: Sequence[Object] = ()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        if not path.endswith("/pods"):
            self._say(METRICS.encode(), "text/plain; version=0.0.4")
        elif "watch" in asked:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.server.ended.wait(30)  # type: ignore[attr-defined]
        else:
            found = [each for each in self.pods if selects(asked["labelSelector"][0], each["metadata"]["labels"])]
            if "/namespaces/team-a/" not in path:
                found = []
            listed = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": found}
            self._say(json.dumps(listed).encode(), "application/json")

    def _say(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def cluster() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a Prometheus that ends resets what it holds
    server.ended = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def prometheus(folder: Path, api_port: int) -> Iterator[str]:
    """The chart's configuration, with the API server elsewhere and little patience."""
    binary = the_programs().find("prometheus") or find_prometheus()
    if binary is None:
        pytest.skip("there is no prometheus: run `make kubernetes`")
    data = one(render({**NAMESPACED, "prometheus": {"enabled": True, "scrapeSeconds": 1}}), "ConfigMap", PROMETHEUS)[
        "data"
    ]
    configuration = yaml.safe_load(data["prometheus.yml"])
    configuration["global"]["evaluation_interval"] = "1s"
    for job in configuration["scrape_configs"]:
        job["kubernetes_sd_configs"][0]["api_server"] = f"http://127.0.0.1:{api_port}"
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    (folder / "alerts.yml").write_text(data["alerts.yml"])
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            command_line(binary, folder / "prometheus.yml", folder / "data", 0), stdout=said, stderr=said
        )
    try:
        until = time.monotonic() + 60
        while (port := port_in(log.read_text())) is None:
            if process.poll() is not None and "field kubernetes_sd_configs not found" in log.read_text():
                pytest.skip("this prometheus cannot find pods: Debian builds it without Kubernetes' discovery")
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str) -> Any:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        return json.load(answer)["data"]
    return None


@pytest.mark.slow
def test_a_real_prometheus_finds_engines_and_routers_by_label_and_evaluates_every_alert(tmp_path: Path) -> None:
    with cluster() as port:
        engine, router = child_labels("opt", Component.ENGINE, "opt-1.3b"), child_labels("opt", Component.ROUTER)
        operator = {name: labels for name, labels, _ in pods(render(NAMESPACED))}["best-effort-serving"]
        Cluster.pods = (
            pod("engine-0", engine, {"http": port, "other": 1}),
            pod("engine-done", engine, {"http": port}, phase="Succeeded"),
            pod("router-0", router, {"http": 1, "admin": port}),
            pod("training-0", child_labels("opt", Component.TRAINING), {"http": port}),
            pod("stranger", {"app": "other"}, {"http": port}),
            pod("operator-0", operator, {"metrics": port}),
        )
        with prometheus(tmp_path, port) as api:
            until = time.monotonic() + 60
            while not (found := figures(api)) or not evaluated(api):
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.2)
            states = {each["name"]: each["state"] for each in rules(api)}
    assert {each["metric"]["pod"]: each["metric"]["besteffort_dev_component"] for each in found} == {
        "engine-0": "engine",
        "router-0": "router",
    }
    (of_engine,) = [each["metric"] for each in found if each["metric"]["pod"] == "engine-0"]
    assert of_engine["namespace"] == "team-a"
    assert of_engine["besteffort_dev_service"] == "opt"
    assert of_engine["besteffort_dev_model"] == engine["besteffort.dev/model"]
    assert {name for name, state in states.items() if state == "pending"} >= {
        "BestEffortServiceStalled",
        "BestEffortModelDown",
    }
    assert states["BestEffortServiceUnavailable"] == "inactive"


def figures(api: str) -> list[Any]:
    """What is known of requests in engines, once both targets have been scraped."""
    found = ask(
        f"{api}/query?query=" + urllib.parse.quote('{__name__="vllm:num_requests_running",besteffort_dev_service!=""}')
    )
    return list(found["result"]) if found and len(found["result"]) == 2 else []


def rules(api: str) -> list[Any]:
    return [each for group in (ask(f"{api}/rules") or {"groups": []})["groups"] for each in group["rules"]]


def evaluated(api: str) -> bool:
    found = rules(api)
    assert not [each["lastError"] for each in found if each.get("lastError")]
    pending = {each["name"] for each in found if each["state"] == "pending"}
    return bool(found) and all(each["health"] == "ok" for each in found) and "BestEffortServiceStalled" in pending


def test_the_chart_watches_its_own_namespace_for_the_operator_and_the_watched_ones_for_services() -> None:
    data = one(render(NAMESPACED), "ConfigMap", PROMETHEUS)["data"]["prometheus.yml"]
    names = [job["kubernetes_sd_configs"][0]["namespaces"]["names"] for job in yaml.safe_load(data)["scrape_configs"]]
    assert names == [["team-a", "team-b"], [NAMESPACE]]
