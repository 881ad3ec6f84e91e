"""What Kopf is for here: it watches, and hands on what it saw. Only this module knows it.

No handler decides or writes: Kopf forgets errors of `on.event` and never repeats them. It puts no finalizer and no
annotation on anything, and posts no events.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import kopf

from bes_operator.cluster import Credentials
from bes_operator.kinds import KINDS, Kind
from bes_operator.manifest import Manifest
from bes_operator.observed import OBSERVED_KINDS, selector_of
from bes_operator.settings import OperatorSettings

Saw = Callable[[Manifest, str | None], None]
"""Hears of an object and what happened to it: ADDED, MODIFIED, DELETED; None: it is in the list before the watch."""


async def watch(
    settings: OperatorSettings, credentials: Callable[[], Awaitable[Credentials]], saw: Saw, stop: asyncio.Event
) -> None:
    """Watch every observed kind until ``stop`` is set. Kopf ends by itself, in any way, when a watch goes wrong.

    Needs an event loop of its own: when Kopf ends it cancels every task that was begun since it began.
    """
    registry = kopf.OperatorRegistry()
    for kind in OBSERVED_KINDS:
        _register(registry, KINDS[kind], saw)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return _connection(await credentials())

    await kopf.operator(
        registry=registry,
        settings=_kopf_settings(settings),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=list(settings.watch_namespaces),
        stop_flag=stop,
    )


def _register(registry: kopf.OperatorRegistry, kind: Kind, saw: Saw) -> None:
    @kopf.on.event(group=kind.group, version=kind.version, plural=kind.plural, registry=registry)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        saw({**event["object"], "apiVersion": kind.api_version, "kind": kind.name}, event["type"])


def _connection(credentials: Credentials) -> kopf.ConnectionInfo:
    scheme, _, token = (credentials.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_file,
        certificate_path=credentials.certificate_file,
        private_key_path=credentials.key_file,
        insecure=not credentials.verify,
        scheme=scheme.capitalize() or None,
        token=token or None,
    )


def _kopf_settings(settings: OperatorSettings) -> kopf.OperatorSettings:
    own = kopf.OperatorSettings()
    own.posting.enabled = False
    own.scanning.disabled = True  # needs no rights on namespaces and CRDs; a CRD that comes later ends the watch
    own.process.ultimate_exiting_timeout = None  # it would kill the process, not the watch
    own.networking.request_timeout = 60
    own.networking.connect_timeout = 10
    own.networking.error_backoffs = Endless(settings.backoff.cap_seconds)
    own.watching.chunk_size = settings.page_size
    for kind in OBSERVED_KINDS:
        if selector := selector_of(kind):
            own.watching.label_selectors[KINDS[kind].group, KINDS[kind].plural] = selector
    return own


class Endless:
    """1, 2, 4, ... seconds up to a cap, for ever, and anew for every request that fails (a generator runs out)."""

    def __init__(self, cap_seconds: float) -> None:
        self._cap_seconds = cap_seconds

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield min(delay, self._cap_seconds)
            delay = min(2 * delay, self._cap_seconds)
