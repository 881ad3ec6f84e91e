"""What one configuration serves: the way of a parsed request from the decision to the account of its outcome.

A new configuration is a new `Serving` beside the old one; an exchange belongs to the one that decided it until it ends.
Synchronous from the request's last byte to its sending.
"""

import time
from collections.abc import Sequence
from urllib.parse import quote

from bes_api.router_config import RouterConfig
from bes_router import openai
from bes_router.backends import Backend, backends_of
from bes_router.decider import Decider
from bes_router.decision_log import DecisionLog
from bes_router.errors import RETRY_AFTER_SECONDS, Reason, RefusedRequestError
from bes_router.http1 import RequestHead
from bes_router.lease import Lease
from bes_router.metrics import Metrics
from bes_router.openai import CompletionRequest
from bes_router.policy.layout import Catalogue, RoutingRequest
from bes_router.policy.reward import reward_share
from bes_router.policy.tracker import LoadTracker
from bes_router.relay import Client, Exchange

CLIENTS_FAULT = frozenset({400, 401, 403, 404, 405, 413, 415, 422})


class Serving:
    """Decides, leases and accounts for one configuration."""

    def __init__(
        self,
        config: RouterConfig,
        catalogue: Catalogue,
        tracker: LoadTracker,
        decider: Decider,
        metrics: Metrics,
        decisions: DecisionLog | None = None,
    ) -> None:
        scenario = config.scenario
        self.draining = False
        self.metrics = metrics
        self.tracker = tracker
        self.task_names = [task.name for task in scenario.tasks]
        self.model_names = [model.name for model in scenario.models]
        self.backends: list[Backend | None] = backends_of(
            config.backends, self.model_names, catalogue, tracker.set_ready
        )
        self._catalogue = catalogue
        self._decider = decider
        self._decisions = decisions
        self._number = 0
        self._max_in_flight = scenario.max_in_flight
        default = self.task_names.index(scenario.default_task)
        self._tasks: dict[str | None, int] = {None: default, "": default, config.service: default}
        self._tasks |= {name: index for index, name in enumerate(self.task_names)}
        self._explanations = self._explain(decider.name) if config.explain_headers else None
        self._labels = [b"" if each is None else _field(each.label).encode("ascii") for each in self.backends]

    def task_of(self, model: str | None) -> int | None:
        """The task that a request's ``model`` names, or None."""
        return self._tasks.get(model)

    def _explain(self, policy: str) -> Sequence[Sequence[bytes]]:
        """The fields of an answer that do not depend on the moment, per task and model."""
        return [
            [
                f"\r\nx-bes-model: {_field(model)}\r\nx-bes-task: {_field(task)}\r\nx-bes-policy: {_field(policy)}"
                "\r\nx-bes-decision: ".encode("ascii")
                for model in self.model_names
            ]
            for task in self.task_names
        ]

    def route(
        self,
        client: Client,
        completion: CompletionRequest,
        task: int,
        head: RequestHead,
        body: bytes,
        arrival: float,
    ) -> Exchange:
        """Decide and lease; the exchange is not started. Raises RefusedRequestError, already accounted for."""
        figures = self.metrics.tasks[task]
        try:
            exchange = self._route(client, completion, task, head, body, arrival)
        except RefusedRequestError as error:
            if error.status in CLIENTS_FAULT:
                figures.client_faults += 1
            else:
                figures.failed += 1
                figures.peak_reward += self._catalogue.best_quality[task]
            raise
        self.metrics.dispatch.observe(time.monotonic() - arrival)
        return exchange

    def _route(
        self,
        client: Client,
        completion: CompletionRequest,
        task: int,
        head: RequestHead,
        body: bytes,
        arrival: float,
    ) -> Exchange:
        tracker = self.tracker
        tracker.arrived(arrival)
        if self.draining:
            raise _later(503, Reason.DRAINING, "this router is stopping; try again")
        if tracker.in_flight >= self._max_in_flight:
            raise _later(429, Reason.OVERLOADED, f"{self._max_in_flight} requests are in flight here; try again")
        catalogue = self._catalogue
        request = RoutingRequest(
            task,
            completion.prompt_tokens,
            completion.output_tokens,
            arrival + catalogue.full_until[task],
            arrival + catalogue.zero_from[task],
        )
        view = tracker.view(arrival)
        decision = self._decider.choose(request, view, arrival)
        self._number += 1
        if self._decisions is not None:
            self._decisions.decided(self._number, request, view, arrival, decision)
        backend = self.backends[decision.engine] if decision.engine >= 0 else None
        if backend is None:
            raise self._nothing_eligible(task, completion)
        self.metrics.decisions[task][backend.model] += 1
        explanation = b""
        if self._explanations is not None:
            explanation = b"%b%d; backend=%b; load=%.1f" % (
                self._explanations[task][backend.model],
                self._number,
                self._labels[backend.engine],
                view.load[backend.engine],
            )
        payload = openai.spliced(body, completion, backend.served)
        request_bytes = b"%b%bcontent-length: %d\r\n\r\n%b" % (
            backend.request_head,
            head.forwarded,
            len(payload),
            payload,
        )
        return Exchange(
            client,
            self,
            backend,
            Lease(tracker, backend.engine, arrival),
            request=request_bytes,
            task=task,
            arrival=arrival,
            stream=completion.stream,
            explanation=explanation,
        )

    def _nothing_eligible(self, task: int, completion: CompletionRequest) -> RefusedRequestError:
        catalogue = self._catalogue
        models = len(self.model_names)
        contexts = [catalogue.context[m] for m in range(models) if catalogue.quality[task * models + m] >= 0.0]
        tokens = completion.prompt_tokens + completion.output_tokens
        if tokens > max(contexts, default=0):
            return RefusedRequestError(
                400,
                Reason.PROMPT_TOO_LONG,
                f"prompt and max_tokens need about {tokens} tokens; the longest context for this task is "
                f"{max(contexts, default=0)}",
                code="context_length_exceeded",
                param="prompt",
            )
        return _later(503, Reason.NO_BACKEND, "no engine that could serve this is ready; try again")

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Note the time to the first token of a stream."""
        if exchange.stream and exchange.status == 200:
            self.metrics.tasks[exchange.task].first_token.observe(now - exchange.arrival)

    def ended(self, exchange: Exchange, now: float) -> None:
        """Account for an engine's whole answer."""
        task, status = exchange.task, exchange.status
        figures = self.metrics.tasks[task]
        catalogue = self._catalogue
        if status != 200:
            if status in CLIENTS_FAULT:
                self.metrics.errors[Reason.ENGINE_REFUSED] += 1
                figures.client_faults += 1
            else:
                self._failed(task, Reason.ENGINE_FAILED)
            return
        figures.completion.observe(now - exchange.arrival)
        answered = exchange.first_byte_at or now if catalogue.first_token[task] else now
        share = reward_share(answered - exchange.arrival, catalogue.full_until[task], catalogue.zero_from[task])
        figures.peak_reward += catalogue.best_quality[task]
        if share > 0.0:
            figures.in_time += 1
            quality = catalogue.quality[task * len(self.model_names) + exchange.backend.model]
            figures.reward += share * quality
        else:
            figures.late += 1

    def failed(self, exchange: Exchange, reason: Reason, now: float) -> None:  # noqa: ARG002 - the protocol's shape
        """Account for an answer that never became whole."""
        if reason is Reason.CLIENT_GONE:
            self.metrics.errors[reason] += 1
            self.metrics.tasks[exchange.task].client_gone += 1
        else:
            self._failed(exchange.task, reason)

    def _failed(self, task: int, reason: Reason) -> None:
        self.metrics.errors[reason] += 1
        figures = self.metrics.tasks[task]
        figures.failed += 1
        figures.peak_reward += self._catalogue.best_quality[task]


def _field(text: str) -> str:
    """Text as a header field's value: visible ASCII, the rest percent-encoded."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]^_`{|}~")


def _later(status: int, reason: Reason, message: str) -> RefusedRequestError:
    return RefusedRequestError(status, reason, message, code=reason, retry_after=RETRY_AFTER_SECONDS)
