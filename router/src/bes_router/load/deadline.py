"""Connections on which a whole question, from the connect to the answer's last byte, has one deadline.

A socket's own timeout begins anew with every byte: a head that drips would hold whoever reads it for hours.
"""

import io
import socket
import time
from functools import partial
from http.client import HTTPResponse
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

LEAST_SECONDS = 1e-3
"""A socket's timeout of 0 would mean not to wait at all."""


class Deadline:
    """When the present question has to be answered."""

    def __init__(self) -> None:
        self._at = 0.0

    def begin(self, seconds: float) -> float:
        """A question begins, and has so long; the instant on the monotonic clock."""
        now = time.monotonic()
        self._at = now + seconds
        return now

    def left(self) -> float:
        """Seconds. Raises TimeoutError where there are none."""
        left = self._at - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("timed out")
        return max(LEAST_SECONDS, left)


def keep_to(deadline: Deadline, pool: HTTPConnectionPool) -> None:
    """Let every connection that ``pool`` makes keep to ``deadline``; it has made none yet."""
    kind = _TimelyTLS if isinstance(pool, HTTPSConnectionPool) else _Timely
    pool.ConnectionCls = partial(kind, deadline=deadline)  # type: ignore[assignment]  # it is only ever called


class _Timely(HTTPConnection):
    def __init__(self, *args: Any, deadline: Deadline, **more: Any) -> None:
        super().__init__(*args, **more)
        self._deadline = deadline
        self.response_class = partial(_TimelyResponse, deadline=deadline)  # type: ignore[assignment]  # see `keep_to`

    def _new_conn(self) -> socket.socket:
        """Try every address of the name within the deadline. Only the name's resolution has limits of its own."""
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        problem: OSError = OSError(f"{self._dns_host} has no address")
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self._deadline.left())
                sock.connect(address)
                sock.settimeout(self._deadline.left())  # what a TLS handshake, as a whole, may take
            except TimeoutError as error:
                sock.close()
                raise ConnectTimeoutError(self, f"{self._dns_host} did not take the connection") from error
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        raise problem

    def send(self, data: Any) -> None:
        """Also what is sent on a kept connection has no more time than is left."""
        if self.sock is not None:
            self.sock.settimeout(self._deadline.left())
        super().send(data)


class _TimelyTLS(_Timely, HTTPSConnection):
    pass


class _TimelyResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_TimelyReader(self.fp.detach(), sock, deadline))


class _TimelyReader(io.RawIOBase):
    """What a socket holds, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()
