"""The API server as a router asks it: EndpointSlices listed and watched over HTTPS with the pod's own account.

Bounded in time and size, never redirected, never on the way of a request. Token and certificates are read again when
they change: both are exchanged while a pod lives.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel, ValidationError

from bes_router.discovery.pace import Pace
from bes_router.discovery.slices import SERVICE_LABEL, EndpointSlice, Metadata, SliceList
from bes_router.errors import DiscoveryError, ExpiredError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAGE_ITEMS = 200
MAX_PAGES = 100
MAX_BYTES = 8 * 1024 * 1024
"""Of one page, and of one event: a slice holds 1,000 endpoints at most."""
MAX_REFUSAL_BYTES = 64 * 1024
MAX_REASON = 300


@dataclass(frozen=True)
class ApiServer:
    """Where the API server is, and the folder with ``token`` and ``ca.crt`` of the account to ask it with."""

    url: str
    account: Path = ACCOUNT
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def of_pod(cls, environment: Mapping[str, str]) -> "ApiServer | None":
        """The API server of the cluster that this process runs in; None: it runs in none."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            return None
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}")


@dataclass(frozen=True)
class Event:
    """One event of a watch: ``slice`` came or changed, or is ``gone``; None: a bookmark."""

    version: str
    slice: EndpointSlice | None = None
    gone: bool = False


class SliceClient:
    """Asks for the slices of ``services`` in ``namespace``. Every question raises DiscoveryError alone."""

    def __init__(self, server: ApiServer, namespace: str, services: Sequence[str]) -> None:
        self._server = server
        self._url = f"{server.url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"{SERVICE_LABEL} in ({','.join(services)})"
        self._session: aiohttp.ClientSession | None = None
        self._trusted: bytes | None = None

    async def list(self) -> tuple[dict[str, EndpointSlice], str]:
        """All slices by name, and the version that they are of. Raises ExpiredError where it was given up meanwhile."""
        found: dict[str, EndpointSlice] = {}
        query = {"limit": str(PAGE_ITEMS)}
        with _translated("LIST"):
            async with asyncio.timeout(self._server.pace.request):
                for _ in range(MAX_PAGES):
                    async with await self._get(query) as response:
                        page = SliceList.model_validate_json(await _body(response))
                    found |= {each.metadata.name: each for each in page.items or ()}
                    if not page.metadata.continuation:
                        return found, page.metadata.version
                    query["continue"] = page.metadata.continuation
            raise DiscoveryError(f"there are more than {MAX_PAGES * PAGE_ITEMS} EndpointSlices")

    async def watch(self, version: str, hear: Callable[[Event | None], None]) -> None:
        """Tell ``hear`` what happens after ``version``, for a while; first None, once the server has agreed to watch.

        Raises ExpiredError where the server no longer knows ``version``.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        pace = self._server.pace
        query["timeoutSeconds"] = str(pace.watch)
        with _translated("WATCH"):
            async with asyncio.timeout(pace.watch + pace.silence), await self._get(query) as response:
                hear(None)
                rest = b""
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    if max(map(len, (*lines, rest))) > MAX_BYTES:
                        raise DiscoveryError(f"an event is larger than {MAX_BYTES} bytes")
                    for line in filter(None, lines):
                        hear(_event(line))

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, query: Mapping[str, str]) -> aiohttp.ClientResponse:
        session = await self._connected()
        token = await asyncio.to_thread((self._server.account / "token").read_bytes)
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "authorization": f"Bearer {token.decode('ascii', 'replace').strip()}",
        }
        params = {"labelSelector": self._selector, **query}
        response = await session.get(self._url, params=params, headers=headers, allow_redirects=False)
        if response.status != 200:
            try:
                raise await _refusal(response)
            finally:
                response.close()
        return response

    async def _connected(self) -> aiohttp.ClientSession:
        """The session that trusts what the account's folder says now."""
        secure = self._server.url.startswith("https:")
        trusted = await asyncio.to_thread((self._server.account / "ca.crt").read_bytes) if secure else b""
        if self._session is None or trusted != self._trusted:
            await self.close()
            context = _context(trusted) if secure else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._server.pace.request / 2),
                trust_env=False,
            )
            self._trusted = trusted
        return self._session


def _context(trusted: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trusted.decode("ascii"))
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # from Python 3.13 on; clusters' own authorities are older than that
    return context


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Whatever goes wrong within is a DiscoveryError that says what was asked."""
    try:
        yield
    except DiscoveryError as error:
        error.args = (f"{what} of EndpointSlices: {error}",)
        raise
    except TimeoutError:
        raise DiscoveryError(f"{what} of EndpointSlices: the API server has been silent for too long") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DiscoveryError(
            f"{what} of EndpointSlices: the answer makes no sense at {where or 'its beginning'}"
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DiscoveryError(f"{what} of EndpointSlices: {str(error)[:MAX_REASON] or type(error).__name__}") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for data in response.content.iter_any():
        body += data
        if len(body) > MAX_BYTES:
            raise DiscoveryError(f"the answer is larger than {MAX_BYTES} bytes")
    return body


async def _refusal(response: aiohttp.ClientResponse) -> DiscoveryError:
    """What a status other than 200 means, with the server's own words."""
    status = response.status
    try:
        said = _Status.model_validate_json(await response.content.read(MAX_REFUSAL_BYTES)).message
    except (aiohttp.ClientError, OSError, ValueError):
        said = ""
    message = f"the API server answered {status}{': ' if said else ''}{said[:MAX_REASON]}"
    if status == HTTPStatus.GONE:
        return ExpiredError(message)
    if status == HTTPStatus.FORBIDDEN:
        message += "; let the pod's account get, list and watch endpointslices of its namespace"
    after = response.headers.get("retry-after", "")
    return DiscoveryError(message, float(after) if after.isdecimal() and len(after) < 6 else 0.0)


def _event(line: bytes) -> Event:
    told = _Told.model_validate_json(line)
    if told.type == "ERROR":
        status = _Status.model_validate(told.object)
        message = f"the API server ended it with {status.code}: {status.message[:MAX_REASON]}"
        raise ExpiredError(message) if status.code == HTTPStatus.GONE else DiscoveryError(message)
    if told.type == "BOOKMARK":
        return Event(_Bookmark.model_validate(told.object).metadata.version)
    if told.type not in {"ADDED", "MODIFIED", "DELETED"}:
        raise DiscoveryError(f"there is no event {told.type[:40]!r}")
    found = EndpointSlice.model_validate(told.object)
    return Event(found.metadata.version, found, told.type == "DELETED")


class _Status(BaseModel):
    message: str = ""
    code: int = 0


class _Told(BaseModel):
    type: str
    object: dict[str, Any]


class _Bookmark(BaseModel):
    metadata: Metadata
