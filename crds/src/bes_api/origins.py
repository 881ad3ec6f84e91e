"""URLs of a Prometheus: the one form that is taken, and their origins (scheme, host, port) for allow-lists."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

URL_PATTERN = (
    r"^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[-A-Za-z0-9._~%]+)*/?$"
)
_URL = re.compile(URL_PATTERN, re.ASCII)
_DEFAULT_PORT = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """`scheme://host:port` of ``url``, in lower case and with its port. Raises ValueError with the mend."""
    mend = (
        "write http(s)://HOST:PORT, with a path where Prometheus has one, without user, password, query or fragment: "
        'for example "http://prometheus.monitoring:9090"'
    )
    if not _URL.fullmatch(url):
        raise ValueError(f"not a URL of a Prometheus; {mend}")  # the URL itself may hold a password
    try:
        parts = urlsplit(url)
        port = _DEFAULT_PORT[parts.scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"not a URL of a Prometheus ({error}); {mend}") from None
    if not port:
        raise ValueError(f"not a URL of a Prometheus (port 0); {mend}")
    host = (parts.hostname or "").lower()
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _checked(url: str) -> str:
    origin_of(url)
    return url


def _origin(url: str) -> str:
    if urlsplit(url).path.strip("/"):
        raise ValueError("an origin has no path; write http(s)://HOST:PORT")
    return origin_of(url)


PrometheusURL = Annotated[
    str, Field(max_length=512, json_schema_extra={"pattern": URL_PATTERN}), AfterValidator(_checked)
]
"""Where a Prometheus is, without credentials, query or fragment."""
Origin = Annotated[str, AfterValidator(_origin)]
"""Scheme, host and port, normalised."""
