"""The door for clients' requests: paths, the client's words, errors in OpenAI's shape. What serves is a `Serving`."""

from bes_api.router_config import Limits
from bes_router import openai
from bes_router.errors import Reason, RefusedRequestError
from bes_router.http1 import HeadCache, Header, RequestHead
from bes_router.metrics import Metrics
from bes_router.relay import Exchange
from bes_router.server import ClientConnection
from bes_router.serving import Serving

COMPLETIONS = b"/v1/completions"
MODELS = b"/v1/models"


class Router:
    """Answers requests with whatever ``serving`` is at the moment. ``started``: Unix time, for the list of models."""

    def __init__(self, serving: Serving, limits: Limits, metrics: Metrics, *, started: float) -> None:
        self.serving = serving
        self.limits = limits
        self.heads = HeadCache()
        self.connections: set[ClientConnection] = set()
        self.metrics = metrics
        self._created = int(started)

    @property
    def draining(self) -> bool:
        """Whether every connection is to be closed after its answer."""
        return self.serving.draining

    def drain(self) -> None:
        """Refuse what comes from now on."""
        self.serving.draining = True

    def opened(self, connection: ClientConnection) -> None:
        """Remember a client."""
        self.connections.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        """Forget a client."""
        self.connections.discard(connection)

    def malformed(self, reason: Reason) -> None:
        """Count a message that was no request."""
        self.metrics.errors[reason] += 1

    def handle(
        self, connection: ClientConnection, head: RequestHead, body: bytes, arrival: float
    ) -> "bytes | Exchange":
        """Answer a whole request, or begin the exchange that will."""
        try:
            path = head.path
            if path == COMPLETIONS:
                _only(head, b"POST")
                return self._completion(connection, head, body, arrival)
            if path == MODELS or path.startswith(MODELS + b"/"):
                _only(head, b"GET")
                return connection.answer(200, self._models(path))
            raise RefusedRequestError(
                404, Reason.NOT_FOUND, "there is no such path; POST /v1/completions or GET /v1/models", code="not_found"
            )
        except RefusedRequestError as error:
            self.metrics.errors[error.reason] += 1
            headers: list[Header] = []
            if error.retry_after is not None:
                headers.append((b"retry-after", b"%d" % error.retry_after))
            if error.status == 405:
                headers.append((b"allow", (error.param or "").encode("ascii")))
            answer = openai.error_body(error.status, str(error), error.code, error.param)
            return connection.answer(error.status, answer, tuple(headers))

    def _models(self, path: bytes) -> bytes:
        if path == MODELS:
            return openai.model_list(self._listed(), self._created)
        name = path[len(MODELS) + 1 :].decode("utf-8", "replace")
        if name not in self._listed():
            raise _unknown_model(name)
        return openai.model_object(name, self._created)

    def _listed(self) -> list[str]:
        return [*self.serving.task_names, *self.serving.model_names]

    def _completion(
        self, connection: ClientConnection, head: RequestHead, body: bytes, arrival: float
    ) -> "bytes | Exchange":
        completion = openai.parse_completion(body)
        task = self.serving.task_of(completion.model)
        if task is None:
            raise _unknown_model(completion.model or "")
        return self.serving.route(connection, completion, task, head, body, arrival)


def _only(head: RequestHead, method: bytes) -> None:
    if head.method != method:
        allowed = method.decode("ascii")
        raise RefusedRequestError(405, Reason.METHOD, f"only {allowed} is served on this path", param=allowed)


def _unknown_model(name: str) -> RefusedRequestError:
    return RefusedRequestError(
        404,
        Reason.UNKNOWN_MODEL,
        f"the model {name!r} does not exist here; name a task, or leave model out",
        code="model_not_found",
        param="model",
    )
