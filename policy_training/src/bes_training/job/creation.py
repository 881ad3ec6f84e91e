"""Creates one ConfigMap with a pod's own rights, which are to create ConfigMaps and nothing else: plain HTTPS.

A creation whose answer was lost is repeated; the name says the digest, so "already there" means done.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from bes_api.errors import BestEffortError

FIELD_MANAGER = "best-effort-serving-training"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GIVE_UP_SECONDS = 1800.0
"""An hour of training is worth waiting half an hour for an API server."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds, doubling between
HOPELESS = frozenset({400, 404, 405, 413, 415, 422})
"""The same again would be refused again; all other errors may pass, also 401 and 403 just after a start."""
CREATED, TAKEN = frozenset({200, 201, 202}), 409


class CreationError(BestEffortError):
    """The API server did not take the ConfigMap."""


@dataclass(frozen=True)
class APIServer:
    """Where it is, and who we are; the token is read for every request, because kubelets exchange it."""

    url: str
    token: Path = SERVICE_ACCOUNT / "token"
    authority: Path | None = SERVICE_ACCOUNT / "ca.crt"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "APIServer":
        """From what every pod's environment says. Raises CreationError outside a pod."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise CreationError("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: run this in a pod")
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")


@dataclass(frozen=True)
class Patience:
    """How often and how long to try."""

    give_up_seconds: float = GIVE_UP_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


def create(
    manifest: Mapping[str, Any], server: APIServer, patience: Patience | None = None, say: Callable[[str], None] = print
) -> None:
    """Create ``manifest`` unless it is there already. Raises CreationError when there is no hope or time left."""
    patience = patience or Patience()
    ends = patience.clock() + patience.give_up_seconds
    wait = FIRST_WAIT
    while True:
        problem, asked = _attempt(manifest, server)
        if problem is None:
            return
        pause = asked if asked is not None else wait * (0.5 + patience.jitter() / 2)
        if patience.clock() + pause > ends:
            raise CreationError(f"{problem}; gave up after {patience.give_up_seconds:g} s")
        say(f"{problem}; trying again in {pause:.1f} s")
        patience.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT)


def _attempt(manifest: Mapping[str, Any], server: APIServer) -> tuple[str | None, float | None]:
    """What went wrong (None: nothing), and for how many seconds the API server asked to wait."""
    metadata = manifest["metadata"]
    what = f"create ConfigMap {metadata['namespace']}/{metadata['name']}"
    path = f"/api/v1/namespaces/{metadata['namespace']}/configmaps?fieldManager={FIELD_MANAGER}"
    try:
        headers = {"Authorization": f"Bearer {server.token.read_text().strip()}", "Content-Type": "application/json"}
        authority = None if server.authority is None else str(server.authority)
        with urllib3.PoolManager(
            ca_certs=authority, timeout=urllib3.Timeout(connect=10, read=60), retries=False
        ) as pool:
            answer = pool.request("POST", server.url + path, body=json.dumps(manifest), headers=headers)
            body = answer.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return f"{what}: {error}", None
    if answer.status in CREATED or (answer.status == TAKEN and _status(body).get("reason") == "AlreadyExists"):
        return None, None
    said = _status(body).get("message") or body[:200].decode(errors="replace")
    problem = f"{what}: {answer.status} {said}"
    if answer.status in HOPELESS:
        raise CreationError(problem)
    return problem, _asked(answer.headers.get("Retry-After"))


def _status(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _asked(retry_after: str | None) -> float | None:
    """Seconds within reason; a date, which RFC 9110 allows too, no API server sends."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return min(max(float(retry_after[:9]), FIRST_WAIT), 2 * LONGEST_WAIT)
