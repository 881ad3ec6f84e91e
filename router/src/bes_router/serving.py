"""What one configuration serves: the way of a request from its decision, or several, to the account of its outcome.

A new configuration is a new `Serving` beside the old one. An exchange belongs to the one that decided its present
attempt until it ends; what needs another attempt is decided by whoever serves then.
Synchronous from the request's last byte to its sending.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from bes_api.router_config import RouterConfig
from bes_router import bodies
from bes_router.account import Account
from bes_router.backends import IDLE_SECONDS, Backend
from bes_router.deadlines import DeadlineWheel
from bes_router.decider import Decider, Voice
from bes_router.decision_log import DecisionLog
from bes_router.decisions import DecisionRing, Setting
from bes_router.errors import Reason, RefusedRequestError
from bes_router.http1 import RequestHead
from bes_router.judgement import Judgement
from bes_router.lease import Departed, Lease
from bes_router.metrics import Metrics
from bes_router.parties import Client, Failure
from bes_router.policy.layout import Catalogue
from bes_router.policy.tracker import LoadTracker
from bes_router.prompt_ratio import PromptRatio, prompt_tokens
from bes_router.refusals import nothing_eligible, overloaded
from bes_router.relay import Exchange
from bes_router.roster import Change, Roster
from bes_router.words import Vocabulary, Words

MAX_ATTEMPTS = 3
_ENGINE_GONE = frozenset({Reason.CONNECT, Reason.BROKE_OFF})


class _Said(NamedTuple):
    """What is told of a decision, by whoever took it; ``fields``: of an answer, per task and model, without the number.

    None: answers carry none.
    """

    setting: Setting
    fields: Sequence[Sequence[bytes]] | None


class Serving:
    """Decides, leases and accounts for one configuration."""

    def __init__(
        self,
        config: RouterConfig,
        catalogue: Catalogue,
        tracker: LoadTracker,
        roster: Roster,
        decider: Decider,
        metrics: Metrics,
        ring: DecisionRing,
        now_serves: Callable[[], "Serving"],
        log: DecisionLog | None = None,
    ) -> None:
        """``now_serves`` says which one decides at the moment: this, until there is another configuration."""
        scenario = config.scenario
        self.metrics = metrics
        self.tracker = tracker
        self.task_names = [task.name for task in scenario.tasks]
        self.model_names = [model.name for model in scenario.models]
        self.backends = roster.places
        self.departed = Departed()
        self._catalogue = catalogue
        self._ring = ring
        self._now_serves = now_serves
        self._log = log
        self._max_in_flight = scenario.max_in_flight
        self.vocabulary = Vocabulary(config, catalogue)
        self.ratios = [PromptRatio() for _ in self.task_names]
        self._account = Account(catalogue, metrics)
        self._aborts: DeadlineWheel[Exchange] = DeadlineWheel(self._expired)
        self._judgement = Judgement(catalogue, metrics.setbacks)
        self._explain_headers = config.explain_headers
        self._figures_source = config.load.type
        self.decide_with(decider)

    @property
    def in_flight(self) -> int:
        """Requests that this router waits for, wherever they are."""
        return self.tracker.in_flight + self.departed.in_flight

    def relisted(self, change: Change, exchanges: Iterable[Exchange]) -> None:
        """Engines came and went; of ``exchanges`` those at engines that went count there no more."""
        self._judgement.relisted(change)
        left = set(map(id, change.left))
        if left:
            now = time.monotonic()
            for exchange in exchanges:
                if id(exchange.backend.latest) in left:
                    exchange.lease.move(self.departed, exchange.backend.engine, now)

    def retire(self) -> None:
        """Judge nobody any more: how engines do is the next configuration's business."""
        self._judgement.end()

    def decide_with(self, decider: Decider) -> None:
        """Decide by another policy from the next request on."""
        self.decider = decider
        self.metrics.policy, self.metrics.fallback = decider.voice.policy.name, bool(decider.loaded.problem)
        self._said_of = {voice: self._said(voice) for voice in (decider.voice, decider.stand_in)}

    def _said(self, voice: Voice) -> "_Said":
        names = self.model_names, self.task_names
        setting = Setting(self._catalogue, voice.policy, voice.name, *names, self._figures_source)
        if not self._explain_headers:
            return _Said(setting, None)
        fields = [
            [
                f"\r\nx-bes-model: {_field(model)}\r\nx-bes-task: {_field(task)}\r\nx-bes-policy: {_field(voice.name)}"
                "\r\nx-bes-decision: ".encode("ascii")
                for model in self.model_names
            ]
            for task in self.task_names
        ]
        return _Said(setting, fields)

    def route(self, client: Client, words: Words, head: RequestHead, body: bytes, arrival: float) -> Exchange:
        """Decide and lease; the exchange is not started. Raises RefusedRequestError, already accounted for."""
        routing = self.vocabulary.routing(words, self.ratios[words.task].value, arrival)
        exchange = Exchange(client, self, words, routing, head, body, arrival)
        tracker = self.tracker
        tracker.arrived(arrival)
        try:
            if self.in_flight >= self._max_in_flight:
                raise overloaded(self._max_in_flight)
            if not self._place(exchange, arrival):
                refusal = nothing_eligible(self._catalogue, routing)
                if refusal.status < 500 or not self._judgement.relent() or not self._place(exchange, arrival):
                    raise refusal
        except RefusedRequestError as error:
            self._account.refused(routing, error)
            raise
        asked = words.asked
        if asked.measurable and self.ratios[routing.task].wants():
            exchange.characters = asked.characters
        if self._catalogue.abort[routing.task]:
            self._aborts.add(exchange, routing.zero_from)
        self.metrics.dispatch.observe(time.monotonic() - arrival)
        return exchange

    def _place(self, exchange: Exchange, now: float) -> bool:
        """Decide where the exchange goes now and lease a place there; False if nothing is eligible."""
        tracker, routing, words = self.tracker, exchange.routing, exchange.words
        view = tracker.view(now)
        decision, voice = self.decider.choose(routing, view, now)
        setting, fields = self._said_of[voice]
        number = self._ring.note(
            setting,
            routing,
            view,
            decision,
            now=now,
            arrival=exchange.arrival,
            figures_at=tracker.figures_at,
            retried_from=exchange.decision,
        )
        if self._log is not None:
            self._log.decided(number, routing, view, now, decision, voice.name)
        backend = self.backends[decision.engine] if decision.engine >= 0 else None
        if backend is None:
            return False
        self.metrics.decisions[routing.task][backend.model] += 1
        if now >= backend.standing.next_sample:
            self._judgement.timed(exchange, backend, view, now)
        if fields is not None:
            exchange.explanation = fields[routing.task][backend.model] + self._ring.id_of(number)
        payload = bodies.spliced(exchange.body, words.asked, backend.served)
        exchange.request = b"%b%bcontent-length: %d\r\n\r\n%b" % (
            backend.request_heads[words.path],
            exchange.head.forwarded,
            len(payload),
            payload,
        )
        exchange.decision = number
        exchange.backend = backend
        exchange.lease = Lease(tracker, backend.engine, now, words.asked.sequences)
        return True

    def again(self, exchange: Exchange, failure: Failure, now: float) -> bool:
        """Decide anew, by whoever serves now and without what was tried: at most three attempts within the deadline."""
        backend, reason = exchange.backend, failure.error.reason
        if failure.status:
            self._judgement.answered(exchange, failure.status, now)
        else:
            self._judgement.broke(exchange, reason, now)
        self._account.attempt_failed(exchange)
        exchange.tried.append(backend)
        if len(exchange.tried) >= MAX_ATTEMPTS:
            return False
        serving = self._now_serves()
        if serving is not self and not serving._take(exchange):
            return False
        if now >= exchange.routing.zero_from or not serving._place_again(exchange, reason in _ENGINE_GONE, now):
            return False
        exchange.retried_for = f"engine_{failure.status}" if failure.status else reason
        if exchange.explanation:
            exchange.explanation += b"; attempt=%d" % (len(exchange.tried) + 1)
        return True

    def _take(self, exchange: Exchange) -> bool:
        """Go on with an exchange of a configuration before: its words, read anew, are this one's from now on.

        False where they mean nothing here any more, such as a task that is gone.
        """
        words = exchange.words
        try:
            words = self.vocabulary.read(words.asked, words.path, exchange.head)
        except RefusedRequestError:
            return False
        exchange.words = words
        exchange.routing = self.vocabulary.routing(words, self.ratios[words.task].value, exchange.arrival)
        exchange.explanation = b""
        exchange.outcome = self
        if self._catalogue.abort[words.task]:
            self._aborts.add(exchange, exchange.routing.zero_from)
        return True

    def _place_again(self, exchange: Exchange, gone: bool, now: float) -> bool:
        """`_place` without what was tried; where its engine is ``gone``, also without its neighbours, if possible."""
        listed = [backend for backend in self.backends if backend is not None]
        tried = {id(each.latest) for each in exchange.tried}
        hidden = [each for each in listed if id(each) in tried]
        if gone:
            gpus, last = self._catalogue.engine_gpu, exchange.backend.latest
            died = {gpus[each.engine] for each in listed if each is last}
            neighbours = [each for each in listed if gpus[each.engine] in died and each not in hidden]
            if neighbours and self._place_without(exchange, [*hidden, *neighbours], now):
                return True
        return self._place_without(exchange, hidden, now)

    def _place_without(self, exchange: Exchange, hidden: Sequence[Backend], now: float) -> bool:
        """`_place` with ``hidden`` out of sight."""
        tracker = self.tracker
        ready = [backend for backend in hidden if backend.ready]
        for backend in ready:
            tracker.set_ready(backend.engine, False)
        try:
            return self._place(exchange, now)
        finally:
            for backend in ready:
                tracker.set_ready(backend.engine, backend.ready)

    def usage_seen(self, exchange: Exchange, tail: bytes) -> None:
        """Learn how long a token is from the last bytes of an answer."""
        tokens = prompt_tokens(tail)
        if tokens is not None:
            self.ratios[exchange.routing.task].learn(exchange.characters, tokens - exchange.words.asked.counted_tokens)

    def first_byte(self, exchange: Exchange, now: float) -> None:
        """Note the time to the first token of a stream."""
        self._account.first_byte(exchange, now)

    def paused(self, exchange: Exchange) -> None:
        """How long it takes is the client's doing now."""
        self._judgement.withdrawn(exchange, time.monotonic())

    def ended(self, exchange: Exchange, now: float) -> None:
        """Judge the backend by its whole answer, which was relayed, and account for it."""
        if exchange.status == 200 and exchange.sample is None:
            exchange.backend.standing.good += 1
        else:
            self._judgement.answered(exchange, exchange.status, now)
        self._account.ended(exchange, now)

    def missed(self, exchange: Exchange, now: float) -> None:
        """Account for a request that was aborted at its deadline."""
        self._judgement.withdrawn(exchange, now, missed=True)
        self._account.missed(exchange)

    def failed(self, exchange: Exchange, reason: Reason, now: float) -> None:
        """Judge the backend by an answer that ended in its middle, or left with its client, and account for it."""
        self._judgement.broke(exchange, reason, now)
        self._account.failed(exchange, reason)

    def gave_up(self, exchange: Exchange, reason: Reason, now: float) -> None:
        """Account for a request of which nothing was relayed; every attempt was judged when it failed."""
        self._judgement.withdrawn(exchange, now)
        if exchange.status:
            self._account.ended(exchange, now)
        else:
            self._account.failed(exchange, reason)

    def sweep(self, now: float) -> None:
        """What needs doing about twice a second: who hangs, who may come back, connections idle for too long."""
        self._judgement.tick(now)
        for backend in self.backends:
            if backend is not None:
                backend.close_idle(before=now - IDLE_SECONDS)

    def _expired(self, exchange: Exchange, now: float) -> None:
        """A deadline has passed. A first token in time is all that some deadlines look at."""
        if exchange.outcome is not self:  # another configuration's deadline holds
            return
        if not (self._catalogue.first_token[exchange.routing.task] and exchange.first_byte_at):
            exchange.miss(now)


def _field(text: str) -> str:
    """Text as a header field's value: visible ASCII, the rest percent-encoded."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]^_`{|}~")
