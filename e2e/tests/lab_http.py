"""A blocking HTTP client for tests: one request, everything that came back, and when."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

WAIT_SECONDS = 60.0
"""For what is sure to come: only a test that fails waits so long."""


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something that has been set going comes about."""
    limit = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def unpunctual(allowed_seconds: float) -> str:
    """Why this machine cannot show a latency to so many seconds: what its own timer misses; empty where it can."""
    missed = []
    for _ in range(20):
        due = time.monotonic() + 0.02
        time.sleep(0.02)
        missed.append(time.monotonic() - due)
    late = sorted(missed)[len(missed) // 2]
    return f"a timer of this machine is {late * 1e3:.1f} ms late" if late > allowed_seconds / 4 else ""


def at_least(expected: float, allowed_seconds: float, measure: Callable[[], float]) -> None:
    """Hold a latency: never below what is expected, and near it once in thirty times, unless the machine is late."""
    for _ in range(30):
        measured = measure()
        assert measured > expected - 1e-4
        if measured <= expected + allowed_seconds:
            return
    if why := unpunctual(allowed_seconds):
        pytest.skip(why)
    assert measured == pytest.approx(expected, abs=allowed_seconds)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


def ask(
    port: int,
    method: str,
    path: str,
    document: object | None = None,
    timeout: float = WAIT_SECONDS,
    fields: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        body = None if document is None else document if isinstance(document, bytes) else json.dumps(document).encode()
        connection.request(method, path, body, dict(fields))
        answer = connection.getresponse()
        content = answer.read()
        return Reply(answer.status, dict(answer.getheaders()), content, time.monotonic() - began)
    finally:
        connection.close()


def complete(port: int, model: str, prompt_tokens: int, output_tokens: int, **more: object) -> Reply:
    document = {"model": model, "prompt": "one " * prompt_tokens, "max_tokens": output_tokens, **more}
    return ask(port, "POST", "/v1/completions", document)


def begin(port: int, model: str, prompt_tokens: int, output_tokens: int) -> socket.socket:
    """Send a request and return the socket without waiting."""
    body = json.dumps({"model": model, "prompt": "one " * prompt_tokens, "max_tokens": output_tokens}).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return connection
