"""The training Job: one ConfigMap and its digest, whatever the API server does; stopped, it goes on."""

import argparse
import http.server
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bes_api.artifact import check_form, report_in
from bes_api.config_map import MAX_ARTIFACT_BYTES, data_digest, files_in
from bes_api.documents import the_service
from bes_api.scenario_of import scenario_of
from bes_api.service import Learner
from bes_api.training_order import ORDER, ArtifactPlace, TrainingOrder
from bes_training.job import command
from bes_training.job.creation import APIServer, CreationError, Patience, create
from bes_training.job.packing import config_map

EXAMPLE = Path(__file__).parents[2] / "examples" / "opt-time-sliced.yaml"
PLACE = ArtifactPlace(namespace="apps", prefix="opt-policy-12345678", labels={"besteffort.dev/service": "opt"})
MANIFEST = config_map({"passport.json": b"{}", "x": b"\0"}, PLACE, {"name": "job", "uid": "uid-1"})


class Server:
    """The API server's one endpoint. ``answers`` are given in order; then everything is taken."""

    def __init__(self, answers: list[Any], context: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.taken: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_POST(self) -> None:
                server._answer(self)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        manifest = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.requests.append((request.path, request.headers["Authorization"]))
        answer = self.answers.pop(0) if self.answers else None
        name = manifest["metadata"]["name"]
        if answer == "reset":
            request.connection.close()
            return
        if answer == "taken-and-reset":
            self.taken[name] = manifest
            request.connection.close()
            return
        status, body, headers = answer or (201, {}, {})
        if answer is None:
            if name in self.taken:
                status, body = 409, {"reason": "AlreadyExists", "message": f'configmaps "{name}" already exists'}
            self.taken.setdefault(name, manifest)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(content)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(answers: list[Any], context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(answers, context))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self) -> Patience:
        return Patience(clock=lambda: self.now, sleep=self.sleep, jitter=random.Random(1).random)


def at(server: Server, token: Path) -> APIServer:
    return APIServer(f"http://127.0.0.1:{server.http.server_port}", token, None)


def quiet(_text: str) -> None:
    """Says nothing."""


def refusal(status: int, message: str = "no", **headers: str) -> tuple[int, dict[str, str], Mapping[str, str]]:
    return status, {"message": message}, {key.replace("_", "-"): value for key, value in headers.items()}


def test_a_config_map_is_created_with_the_pods_token(serve: Any, token: Path) -> None:
    server = serve([])
    create(MANIFEST, at(server, token), say=quiet)
    ((path, said),) = server.requests
    assert path == "/api/v1/namespaces/apps/configmaps?fieldManager=best-effort-serving-training"
    assert said == "Bearer secret"
    (taken,) = server.taken.values()
    assert taken == json.loads(json.dumps(MANIFEST))
    assert taken["immutable"] is True
    assert taken["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "uid-1"}
    ]


@pytest.mark.parametrize(
    "faults",
    [
        [refusal(500)],
        [refusal(403), refusal(401), refusal(503)],
        ["reset", "reset"],
        ["taken-and-reset"],
        [(502, b"<html>", {})],
        [(409, {"reason": "Conflict", "message": "try again"}, {})],
    ],
)
def test_whatever_may_pass_is_tried_again_and_the_object_is_there_once(
    faults: list[Any], serve: Any, token: Path
) -> None:
    server, clock = serve(faults), Clock()
    create(MANIFEST, at(server, token), clock.patience(), quiet)
    assert list(server.taken) == [MANIFEST["metadata"]["name"]]
    assert len(server.requests) == len(faults) + 1
    assert len(clock.slept) == len(faults)


def test_what_is_there_already_under_its_digest_is_done(serve: Any, token: Path) -> None:
    server = serve([])
    create(MANIFEST, at(server, token), say=quiet)
    create(MANIFEST, at(server, token), say=quiet)
    assert len(server.requests) == 2


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_and_not_for_longer_than_makes_sense(
    serve: Any, token: Path
) -> None:
    server, clock = serve([refusal(429, Retry_After="7"), refusal(429, Retry_After="99999999")]), Clock()
    create(MANIFEST, at(server, token), clock.patience(), quiet)
    assert clock.slept == [7.0, 60.0]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_is_hopeless_is_said_at_once(status: int, serve: Any, token: Path) -> None:
    server, clock = serve([refusal(status, "the object is bad")]), Clock()
    with pytest.raises(CreationError, match=f"create ConfigMap apps/.*{status} the object is bad"):
        create(MANIFEST, at(server, token), clock.patience(), quiet)
    assert len(server.requests) == 1


def test_after_half_an_hour_it_gives_up(serve: Any, token: Path) -> None:
    server, clock = serve([refusal(500)] * 1000), Clock()
    with pytest.raises(CreationError, match="gave up after 1800 s"):
        create(MANIFEST, at(server, token), clock.patience(), quiet)
    assert 60 <= len(server.requests) <= 130
    assert max(clock.slept) <= 30


def test_a_token_that_the_kubelet_exchanged_is_used(serve: Any, token: Path) -> None:
    server = serve([refusal(401)])
    said = iter(["next"])
    clock = Clock()
    patience = Patience(clock=lambda: clock.now, sleep=lambda _seconds: token.write_text(next(said)) and None)
    create(MANIFEST, at(server, token), patience, quiet)
    assert [each for _, each in server.requests] == ["Bearer secret", "Bearer next"]


def test_a_server_with_another_certificate_is_not_trusted(serve: Any, token: Path, tmp_path: Path) -> None:
    mine, other = (certificate(tmp_path / name) for name in ("mine", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*mine)
    server = serve([], context)
    url = f"https://127.0.0.1:{server.http.server_port}"
    with pytest.raises(CreationError, match="CERTIFICATE_VERIFY_FAILED"):
        create(MANIFEST, APIServer(url, token, other[0]), Patience(give_up_seconds=0.0), quiet)
    assert server.requests == []
    create(MANIFEST, APIServer(url, token, mine[0]), Patience(give_up_seconds=0.0), quiet)
    assert len(server.taken) == 1


def certificate(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    subject = ("-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1")
    files = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *subject]
    subprocess.run([*made, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def test_outside_a_pod_it_says_so() -> None:
    with pytest.raises(CreationError, match="run this in a pod"):
        APIServer.of({})
    address = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert APIServer.of(address).url == "https://[fd00::1]:443"


def order(learner: Learner = Learner.EVOLUTION, decisions: int = 1_000) -> TrainingOrder:
    scenario = scenario_of(*the_service(EXAMPLE))
    return TrainingOrder(scenario=scenario, learner=learner, decisions=decisions, seeds=1, artifact=PLACE)


def arguments(folder: Path, asked: TrainingOrder) -> argparse.Namespace:
    asked.write(folder / ORDER)
    parser = argparse.ArgumentParser()
    command.configure(parser)
    told = ["--work", str(folder / "work"), "--job-name", "job", "--job-uid", "uid-1", "--threads", "2"]
    return parser.parse_args([str(folder / ORDER), *told, "--termination-log", str(folder / "log")])


def test_fewer_decisions_than_usual_are_called_shortened() -> None:
    assert command.settings_of(order(decisions=1_000), 1).shortened
    usual = command.settings_of(order(decisions=1_200_000), 1)
    assert not usual.shortened
    assert (usual.traces, command.terms_of(usual).judged.seeds) == (160, (101, 102, 103))


@pytest.mark.slow
def test_a_job_leaves_one_sound_artifact_and_says_its_digest(serve: Any, token: Path, tmp_path: Path) -> None:
    server = serve([refusal(500), "taken-and-reset"])
    told = arguments(tmp_path, order())
    digest = command.train_and_deliver(told, at(server, token))
    (taken,) = server.taken.values()
    files = files_in(taken)
    assert data_digest(files) == digest
    assert taken["metadata"]["name"] == f"opt-policy-12345678-{digest.removeprefix('sha256:')[:16]}"
    assert sum(map(len, files.values())) <= MAX_ARTIFACT_BYTES
    passport, report = check_form(files, "it"), report_in(files, "it")
    assert passport.training.shortened
    assert passport.scenario_hash == report.scenario_hash == order().scenario.content_hash()
    assert len({each.workload for each in report.outcomes if each.policy == "Learned"}) >= 30
    assert {each.policy for each in report.validation} >= {report.comparator, "Static(opt-125m)"}
    assert all(each.differs is not None for each in report.outcomes if each.policy == "Learned")
    report.write(told.work / "evaluation.json")
    assert packed(told.work).startswith(f"# digest: {digest}\n")
    again = command.train_and_deliver(told, at(server, token))
    assert again == digest  # from its journal: the same bytes, so the same name, which is there


def packed(folder: Path) -> str:
    """What `python -m bes_training pack` prints; applied, it is an artifact to import."""
    line = [sys.executable, "-m", "bes_training", "pack", str(folder), "--name", "mine", "--namespace", "apps"]
    text = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    manifest = yaml.safe_load(text)
    assert manifest["metadata"] == {"name": "mine", "namespace": "apps"}
    assert text.startswith(f"# digest: {data_digest(files_in(manifest))}\n")
    return text


@pytest.mark.slow
def test_sigterm_ends_a_job_with_its_exit_code_and_the_same_work_folder_goes_on(tmp_path: Path) -> None:
    told = arguments(tmp_path, order(decisions=20_000))
    line = [sys.executable, "-m", "bes_training", "job", str(told.order), "--work", str(told.work), "--job-name", "job"]
    line += ["--job-uid", "uid-1", "--threads", "1", "--termination-log", str(told.termination_log)]
    environment = os.environ | {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with subprocess.Popen(line, stderr=subprocess.PIPE, env=environment, text=True) as job:
        journal = told.work / "training.json"
        give_up = time.monotonic() + 120
        while not (journal.exists() and "rule Static1" in journal.read_text()) and time.monotonic() < give_up:
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=60)
    assert (job.returncode, said.strip().splitlines()[-1]) == (143, "job: ended by SIGTERM")
    assert "rule Static0/LeastLoaded" in json.loads(journal.read_text())["stages"]
    assert not told.termination_log.exists()


def test_what_a_person_must_mend_is_the_last_word_of_the_pod(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = arguments(tmp_path, order())
    told.order.write_text("{}")
    with pytest.raises(Exception, match="scenario") as error:
        command.run(told, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"})
    assert told.termination_log.read_text() == str(error.value)
