"""What discovery tells, and the one-method seam through which it does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bes_api.discovery_config import BackendAddress


@dataclass(frozen=True)
class Listed:
    """One running engine. ``ready``: what kubelet says of it; None: nobody says, only probes tell."""

    backend: BackendAddress
    ready: bool | None = None


@dataclass(frozen=True)
class Found:
    """Every engine that may be sent to. ``current`` is False for what was known before and has yet to be confirmed."""

    listed: tuple[Listed, ...]
    current: bool = True


Tell = Callable[[Found], None]


@dataclass
class Report:
    """How a discovery goes, for status and metrics; it counts from its beginning."""

    heard_at: float | None = None
    """When its source was last heard (monotonic clock); None: never yet, or there is nobody to hear."""
    problem: str = ""
    """Why its source cannot be heard just now; empty: it can."""
    lists: int = 0
    failures: int = 0
    waiting: int = field(default=0)
    """Pods for which no replica of their model's range is free."""
    unserved: tuple[str, ...] = ()
    """Services that have no usable endpoint."""
    guessed: tuple[str, ...] = ()
    """Accelerator groups whose GPUs nodes do not tell apart."""


class Discovery(Protocol):
    """A source of engines."""

    @property
    def name(self) -> str:
        """As metrics and status say it."""
        ...

    @property
    def report(self) -> Report:
        """How it goes."""
        ...

    async def run(self, tell: Tell) -> None:
        """Tell what is found, at once and whenever it changes, until cancelled or nothing can change any more."""
