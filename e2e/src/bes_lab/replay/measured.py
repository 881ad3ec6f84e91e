"""What a replay is aimed at, and what it measured: instants and statuses, not yet judged."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from bes_lab.errors import TargetError

_PATH = re.compile(r"[!-~]*")  # visible ASCII: it goes into the request's first line as it is
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
        refusal = TargetError(f"{url}: expected http://HOST:PORT, such as http://127.0.0.1:8000")
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            port = 80 if parts.port is None else parts.port
            (parts.hostname or "").encode("idna")  # as the resolver will
        except ValueError:  # also what cannot be encoded
            raise refusal from None
        if parts.scheme != "http" or not parts.hostname or not port or not _PATH.fullmatch(parts.path):
            raise refusal
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
