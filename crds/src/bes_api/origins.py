"""URLs of a Prometheus: the one form that is taken, and their origins (scheme, host, port) for allow-lists."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_HEXTET = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(  # RFC 4291: eight groups, of which one run of any length may be written as two colons
    (
        f"({_HEXTET}:){{7}}{_HEXTET}",
        f"({_HEXTET}:){{1,7}}:",
        *(f"({_HEXTET}:){{1,{7 - after}}}(:{_HEXTET}){{1,{after}}}" for after in range(1, 7)),
        f":((:{_HEXTET}){{1,7}}|:)",
    )
)
_PORT = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
URL_PATTERN = rf"^https?://([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[({_IPV6})\])(:({_PORT}))?(/[-A-Za-z0-9._~%]+)*/?$"
"""The API server judges by this alone, so it says everything: also which ports and IPv6 addresses there are."""
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
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORT[parts.scheme]
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
