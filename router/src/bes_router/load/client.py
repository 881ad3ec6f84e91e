"""Asks one Prometheus, from one thread: bounded in time and size, never repeated, never sent anywhere else."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, SSLError, Timeout
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from bes_api.origins import origin_of
from bes_api.router_config import PrometheusLoad
from bes_router.errors import FiguresError
from bes_router.load.deadline import Deadline, keep_to

MAX_AUTHORIZATION_BYTES = 16 * 1024
READ_BYTES = 64 * 1024

_Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class Exchange:
    """A question's result (JSON, not yet trusted), and between which instants of ours it was answered."""

    result: object
    sent: float
    received: float


class _Bounded(HTTPAdapter):
    """Reads an answer whole, within bytes and seconds that nothing on the other side can stretch."""

    def __init__(self, max_bytes: int, seconds: float) -> None:
        super().__init__(max_retries=Retry(0, read=False))
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._deadline = Deadline()
        self.sent = self.received = 0.0

    def get_connection_with_tls_context(self, *args: Any, **given: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **given)
        keep_to(self._deadline, pool)
        return pool

    def send(self, request: PreparedRequest, *_: object, **given: object) -> Response:
        self.sent = self._deadline.begin(self._seconds)
        verify = given.get("verify", True)
        response = super().send(
            request, stream=True, timeout=self._seconds, verify=verify if isinstance(verify, str) else True
        )
        self.received = time.monotonic()
        raw = response.raw
        try:
            if response.is_redirect:
                raise FiguresError("it answered with a redirect, which is not followed: name the URL that it leads to")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FiguresError("it compressed its answer though that was not asked for")
            response.raw = io.BytesIO(self._read(raw))
        except BaseException:
            raw.close()
            raise
        return response

    def _read(self, raw: BaseHTTPResponse) -> bytes:
        body = b""
        try:
            while data := raw.read1(READ_BYTES, decode_content=False):
                body += data
                if len(body) > self._max_bytes:
                    raise FiguresError(f"its answer is longer than {self._max_bytes} bytes: narrow the matchers")
        except ReadTimeoutError:
            raise FiguresError(f"its answer was not complete within {self._seconds:g} s") from None
        return body


class PrometheusClient:
    """Made and used in one thread. Files (authorization, certificates) are read again when they change."""

    def __init__(self, settings: PrometheusLoad, max_bytes: int) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._origin = origin_of(settings.url)
        self._stamps: _Stamps | None = None
        self._connect: PrometheusConnect | None = None
        self._adapter = _Bounded(max_bytes, settings.answer_seconds)

    def ask(self, query: str) -> Exchange:
        """One instant query at Prometheus' own now. Raises FiguresError, whatever goes wrong."""
        seconds = self._settings.answer_seconds
        try:
            connect = self._connected()
            result: object = connect.custom_query(query, params={"timeout": f"{seconds:g}s"})
        except FiguresError as error:
            raise FiguresError(f"{self._origin}: {error}") from None
        except Timeout:
            raise FiguresError(f"{self._origin} did not answer within {seconds:g} s") from None
        except SSLError as error:
            reason = f"{_innermost(error)}; name its authority's certificates"
            raise FiguresError(f"{self._origin} is not trusted: {reason}") from None
        except NoConnection as error:
            raise FiguresError(f"{self._origin} cannot be reached: {_innermost(error)}") from None
        except PrometheusApiClientException as error:
            raise FiguresError(f"{self._origin} refused the query: {str(error)[:300]}") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise FiguresError(f"{self._origin} did not answer as Prometheus does ({type(error).__name__})") from None
        except (RequestException, HTTPError, OSError) as error:
            raise FiguresError(f"{self._origin} could not be asked: {str(error)[:300]}") from None
        return Exchange(result, self._adapter.sent, self._adapter.received)

    def close(self) -> None:
        """Close the connection."""
        if self._connect is not None:
            self._connect.close()
            self._connect = None

    def _connected(self) -> PrometheusConnect:
        settings = self._settings
        stamps = tuple(_stamp(file) for file in (settings.ca_file, settings.authorization_file))
        if self._connect is not None and stamps == self._stamps:
            return self._connect
        self.close()
        session = Session()
        session.trust_env = False  # no proxy, netrc or certificates from the environment
        session.headers["accept-encoding"] = "identity"
        if settings.ca_file is not None:
            session.verify = str(settings.ca_file)
        if settings.authorization_file is not None:
            session.headers["authorization"] = authorization_of(settings.authorization_file)
        url = settings.url.rstrip("/")
        connect = PrometheusConnect(url, session=session, retry=Retry(0, read=False))  # time is the adapter's business
        self._adapter = _Bounded(self._max_bytes, settings.answer_seconds)
        session.adapters.clear()
        session.mount(f"{url}/", self._adapter)  # the only place that this session can reach
        self._stamps, self._connect = stamps, connect
        return connect


def authorization_of(file: Path) -> str:
    """The header's value: a bare token becomes ``Bearer TOKEN``. Raises FiguresError without the content."""
    with file.open("rb") as opened:
        content = opened.read(MAX_AUTHORIZATION_BYTES + 1).strip()
    if not 0 < len(content) <= MAX_AUTHORIZATION_BYTES or any(not 0x20 <= byte < 0x7F for byte in content):
        raise FiguresError(f"{file}: expected one line of visible ASCII, a token or a whole Authorization value")
    text = content.decode("ascii")
    return text if " " in text else f"Bearer {text}"


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file does; also through a swapped link, as a mounted Secret has it."""
    if file is None:
        return None
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _innermost(error: BaseException) -> BaseException | str:
    """The reason below the layers of an HTTP library, without the URL that they repeat."""
    seen: BaseException = error
    while isinstance(below := seen.__cause__ or seen.__context__, BaseException):
        seen = below
    return seen if isinstance(seen, OSError) else type(seen).__name__
