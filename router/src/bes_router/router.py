"""The door for clients' requests: paths, the client's words, errors in OpenAI's shape. What serves is a `Serving`."""

from bes_api.router_config import Limits
from bes_router import bodies, openai
from bes_router.bodies import Asked
from bes_router.errors import Reason, RefusedRequestError
from bes_router.http1 import HeadCache, Header, RequestHead
from bes_router.metrics import Metrics
from bes_router.relay import Exchange
from bes_router.server import ClientConnection
from bes_router.serving import Serving
from bes_router.words import unknown_model

COMPLETIONS = b"/v1/completions"
CHAT = b"/v1/chat/completions"
MODELS = b"/v1/models"


class Router:
    """Answers requests with whatever ``serving`` is at the moment. ``started``: Unix time, for the list of models."""

    def __init__(self, serving: Serving, limits: Limits, metrics: Metrics, *, started: float) -> None:
        self.serving = serving
        self.limits = limits
        self.heads = HeadCache()
        self.connections: set[ClientConnection] = set()
        self.metrics = metrics
        self.draining = False
        """Every connection is closed after its answer; a request that is here already is served: nobody else has it."""
        self._created = int(started)

    def serve(self, serving: Serving, limits: Limits) -> None:
        """Answer with another configuration from the next request on."""
        self.serving, self.limits, self.metrics = serving, limits, serving.metrics

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
                return self._routed(connection, bodies.parse_completion(body), path, head, body, arrival)
            if path == CHAT:
                _only(head, b"POST")
                return self._routed(connection, bodies.parse_chat(body), path, head, body, arrival)
            if path == MODELS or path.startswith(MODELS + b"/"):
                _only(head, b"GET")
                return connection.answer(200, self._models(path))
            raise RefusedRequestError(
                404,
                Reason.NOT_FOUND,
                "there is no such path; POST /v1/completions or /v1/chat/completions, or GET /v1/models",
                code="not_found",
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
        listed = self.serving.vocabulary.listed
        if path == MODELS:
            return openai.model_list(listed, self._created)
        name = path[len(MODELS) + 1 :].decode("utf-8", "replace")
        if name not in listed:
            raise unknown_model(name)
        return openai.model_object(name, self._created)

    def _routed(
        self, connection: ClientConnection, asked: Asked, path: bytes, head: RequestHead, body: bytes, arrival: float
    ) -> "Exchange":
        words = self.serving.vocabulary.read(asked, path, head)
        return self.serving.route(connection, words, head, body, arrival)


def _only(head: RequestHead, method: bytes) -> None:
    if head.method != method:
        allowed = method.decode("ascii")
        raise RefusedRequestError(405, Reason.METHOD, f"only {allowed} is served on this path", param=allowed)
