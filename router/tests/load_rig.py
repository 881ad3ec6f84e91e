"""What tests of load figures share: a tracker that keeps what it is given, targets, and a Prometheus of a few lines."""

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bes_router.load.board import Target
from bes_router.policy.layout import Floats

GAUGES = ("running", "waiting")


@dataclass(frozen=True)
class Taken:
    counts: list[float | None]
    own: list[float]
    at: list[float]
    served: tuple[float, float] | None


class Seen:
    """Takes figures as the tracker does, and keeps them."""

    def __init__(self, engines: int) -> None:
        self.own: list[float] = [0.0] * engines
        self.finished_own: list[float] = [0.0] * engines
        self.taken: list[Taken] = []

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Floats,
        at: Sequence[float],
        served: tuple[float, float] | None = None,
    ) -> None:
        self.taken.append(Taken(list(counts), [own_then[i] for i in range(len(own_then))], list(at), served))


def target(engine: int, port: int = 1, gauges: tuple[str, ...] = GAUGES, finished: str | None = "done") -> Target:
    return Target(engine, f"m/{engine}", "127.0.0.1", port, gauges, finished, f"127.0.0.1:{port}")


def series(
    part: str, join: str, value: object, at: float = 1000.0, label: str = "instance", **labels: str
) -> dict[str, object]:
    return {"metric": {"bes_part": part, label: join, **labels}, "value": [at, value]}


def scraped(
    join: str, stamp: float, *values: float, at: float = 1000.0, label: str = "instance", **labels: str
) -> list[dict[str, object]]:
    """The series of one backend, all of one scrape: value i is that of name i."""
    found = []
    for i, value in enumerate(values):
        found.append(series(f"value:{i}", join, f"{value:g}", at, label, **labels))
        found.append(series(f"stamp:{i}", join, f"{stamp!r}", at, label, **labels))
    return found


def answered(result: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@dataclass
class Asked:
    path: str
    headers: dict[str, str]


class FakePrometheus:
    """Answers every GET with what ``answer`` returns: a body, or status, header fields and body."""

    def __init__(self) -> None:
        self.answer: Callable[[], bytes | tuple[int, Mapping[str, str], bytes]] = lambda: answered([])
        self.asked: list[Asked] = []
        self.url = ""


@contextlib.contextmanager
def fake_prometheus(tls: ssl.SSLContext | None = None) -> Iterator[FakePrometheus]:
    fake = FakePrometheus()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fake.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
            found = fake.answer()
            status, fields, body = found if isinstance(found, tuple) else (200, {}, found)
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # who does not trust us hangs up
                super().handle()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
