"""A blocking HTTP client for tests: one request, everything that came back, and when."""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))


def ask(
    port: int,
    method: str,
    path: str,
    document: object | None = None,
    timeout: float = 20.0,
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
    connection = socket.create_connection(("127.0.0.1", port), timeout=20.0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return connection
