"""What a replay is aimed at, and what it measured: instants and statuses, not yet judged."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from bes_lab.errors import TargetError

UNANSWERED = 0
"""Status of a request that had no (complete) answer."""


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Read `http://HOST:PORT[/PATH]`; without a path, `/v1/completions`."""
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise TargetError(f"{url}: expected http://HOST:PORT, such as http://127.0.0.1:8000")
        path = parts.path if parts.path not in {"", "/"} else "/v1/completions"
        return cls(parts.hostname, port, path)


@dataclass(frozen=True)
class Measured:
    """What happened to N requests; instants are seconds from the start, NaN where something never happened."""

    due: list[float]
    sent: list[float]
    first_byte: list[float]
    done: list[float]
    status: list[int]
    model: list[str]
    """The concrete model that answered: the header `x-bes-model`, else the body's `model`."""
    cpu_seconds: float
    """CPU time of this process from the first instant to the last."""
    machine_load: list[float]
    """Share of all cores' time in use, second by second."""
