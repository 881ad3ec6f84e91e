"""What the router says on purpose. Raised inside, turned into one HTTP answer (or one exit line) at the edge.

BestEffortError (bes_api)
└── RouterError
    ├── MalformedMessageError    bytes that are not the HTTP/1.1 we accept: answered once, then the connection closes
    ├── RefusedRequestError      a well-formed request that is not served: an OpenAI-shaped answer, connection kept
    ├── FiguresError        load figures that could not be had: they are unknown, one warning, and requests go on
    ├── DiscoveryError      an API server that could not be asked which engines run: what was known goes on
    │   └── ExpiredError    it no longer knows the version that was asked for: list anew
    ├── UpstreamError       an engine that could not be reached, broke off or spoke nonsense
    └── StartupError        exit code 2: an address that cannot be bound, a log that cannot be written
"""

from enum import StrEnum

from bes_api.errors import BestEffortError

RETRY_AFTER_SECONDS = 1
"""What a refused client is told to wait."""


class Reason(StrEnum):
    """Why a request was not answered as it should be; the label of the metric `bes_router_errors_total`."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TIMEOUT = "client_timeout"
    NOT_FOUND = "not_found"
    METHOD = "method"
    BAD_BODY = "bad_body"
    BAD_FIELD = "bad_header_field"
    UNKNOWN_MODEL = "unknown_model"
    PROMPT_TOO_LONG = "prompt_too_long"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    NO_BACKEND = "no_backend"
    CONNECT = "backend_connect"
    BROKE_OFF = "backend_broke_off"
    BAD_RESPONSE = "backend_bad_response"
    SILENT = "backend_silent"
    CLIENT_STALLED = "client_stalled"
    DEADLINE = "deadline_missed"
    ENGINE_REFUSED = "engine_refused"
    ENGINE_FAILED = "engine_failed"
    CLIENT_GONE = "client_gone"


class RouterError(BestEffortError):
    """Root of the router's own errors."""


class MalformedMessageError(RouterError):
    """Framing or syntax that could be read in two ways. ``status`` is the answer before the connection closes."""

    def __init__(self, message: str, status: int = 400, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class RefusedRequestError(RouterError):
    """An answer in OpenAI's shape. ``retry_after`` (seconds) says that the same request may succeed later."""

    def __init__(
        self,
        status: int,
        reason: Reason,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.code = code
        self.param = param
        self.retry_after = retry_after


class UpstreamError(RouterError):
    """An engine failed this request; ``reason`` says how."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FiguresError(RouterError):
    """No usable answer about load figures."""


class DiscoveryError(RouterError):
    """No usable answer about engines. ``retry_after``: seconds to wait, as the answer says; 0: it says nothing."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ExpiredError(DiscoveryError):
    """See the module."""


class StartupError(RouterError):
    """The router cannot start with what it was given."""
