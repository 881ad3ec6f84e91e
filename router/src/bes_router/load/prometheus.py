"""Load source `prometheus`: one thread asks, the event loop sets figures against this router's own counts of then."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bes_api.router_config import PrometheusLoad
from bes_router.errors import FiguresError
from bes_router.load.answer import Answer, Figure, read_answer
from bes_router.load.board import Board, Reading, Target, Tracker
from bes_router.load.client import Exchange, PrometheusClient
from bes_router.load.clock import RemoteClock
from bes_router.load.history import STEP_SECONDS, OwnHistory
from bes_router.load.question import Question, question_about
from bes_router.load.tally import Tally

log = logging.getLogger(__name__)

LEAST_HISTORY_SECONDS = 60.0
BYTES, BYTES_PER_BACKEND = 64 * 1024, 32 * 1024
"""Longest answer: some ten series with long labels for each backend."""


@dataclass(frozen=True)
class Outcome:
    """What one question came to, and how long it took."""

    question: Question
    answer: Answer | FiguresError
    exchange: Exchange | None
    seconds: float


class PrometheusSource:
    """``targets`` are asked for; ``count`` is the number of all engines."""

    name = "prometheus"

    def __init__(self, targets: Sequence[Target], count: int, settings: PrometheusLoad, tracker: Tracker) -> None:
        self._settings = settings
        self._tracker = tracker
        self._question = question_about(targets, settings.matchers, settings.join_label)
        self._history = OwnHistory(count, max(LEAST_HISTORY_SECONDS, 2.0 * settings.stale_seconds))
        self._clock = RemoteClock()
        self._stamps: dict[int, float] = {}
        self._since: dict[int, float] = {}  # when an engine left its place, perhaps for another
        self._max_bytes = BYTES + BYTES_PER_BACKEND * count
        self._heard_at = 0.0
        self.board = Board(targets, count, settings.stale_seconds, tracker)
        self.tally = Tally()

    def relist(self, targets: Sequence[Target]) -> None:
        """See `Source`. Of a time when another engine was in its place, own counts were that one's: no use."""
        now = time.monotonic()
        stay = set(targets)
        for left in (target for target in self._question.targets if target not in stay):
            self._since[left.engine] = now
            self._stamps.pop(left.engine, None)
        self._question = question_about(targets, self._settings.matchers, self._settings.join_label)
        self.board.relist(targets, now)

    async def run(self) -> None:
        """Ask for ever, at a steady pace; own counts are noted every 50 ms."""
        stop = threading.Event()
        # A daemon: a server that keeps it waiting must not keep the process.
        thread = threading.Thread(
            target=self._ask_for_ever, args=(asyncio.get_running_loop(), stop), name="load-figures", daemon=True
        )
        thread.start()
        try:
            while True:
                now = time.monotonic()
                self._history.record(now, self._tracker.own, self._tracker.finished_own)
                if now - self._heard_at > 2.0 * self._settings.poll_seconds:
                    self._heard_at = now
                    self.board.hand_on(now)  # no answer either: what is known grows old
                await asyncio.sleep(STEP_SECONDS)
        finally:
            stop.set()

    def _ask_for_ever(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        client = PrometheusClient(self._settings, self._max_bytes)
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            question = self._question
            outcome = self._ask(client, question) if question.targets else None
            due = max(due + self._settings.poll_seconds, time.monotonic())
            if outcome is None:
                continue
            try:
                loop.call_soon_threadsafe(self._take, outcome, stop)
            except RuntimeError:  # the loop was closed meanwhile
                break
        client.close()

    def _ask(self, client: PrometheusClient, question: Question) -> Outcome:
        began = time.monotonic()
        exchange: Exchange | None = None
        answer: Answer | FiguresError
        try:
            exchange = client.ask(question.query)
            answer = read_answer(exchange.result, question)
        except FiguresError as error:
            answer = error
        return Outcome(question, answer, exchange, time.monotonic() - began)

    def _take(self, outcome: Outcome, stop: threading.Event) -> None:
        """In the event loop: note what the thread found out."""
        if stop.is_set():
            return
        now = self._heard_at = time.monotonic()
        self.tally.seconds.observe(outcome.seconds)
        answer = outcome.answer
        if isinstance(answer, FiguresError):
            self.tally.errors += 1
            self._say(str(answer))
        else:
            if answer.evaluated_at is not None and outcome.exchange is not None:
                self._clock.observe(outcome.exchange.sent, outcome.exchange.received, answer.evaluated_at)
            self._history.record(now, self._tracker.own, self._tracker.finished_own)
            asked = [target for target in outcome.question.targets if self.board.lists(target)]
            for target in asked:
                self._read(target, answer.figures.get(target.engine))
            self._say(self._missing(asked, answer))
        self.board.hand_on(now)

    def _read(self, target: Target, figure: Figure | None) -> None:
        if figure is None:
            self._stamps.pop(target.engine, None)
            self.board.take(target.engine, None)
            return
        if figure.stamp == self._stamps.get(target.engine):
            return
        self._stamps[target.engine] = figure.stamp
        at = self._clock.ours(figure.stamp)
        then = self._history.at(at)
        if then is None or at < self._since.get(target.engine, -math.inf):
            self.board.take(target.engine, None)
            return
        own, finished = float(then[0][target.engine]), float(then[1][target.engine])
        self.board.take(target.engine, Reading(at, figure.in_flight, own, figure.finished, finished))

    def _missing(self, asked: Sequence[Target], answer: Answer) -> str:
        missing = [target for target in asked if target.engine not in answer.figures]
        if not missing:
            return ""
        label, first = self._settings.join_label, missing[0]
        return (
            f"Prometheus has no usable figure of {len(missing)} of {len(asked)} backends, such as {first.label}"
            f" ({label}={first.join!r}, {', '.join(first.gauges)}): see to its targets, the join label and the matchers"
        )

    def _say(self, problem: str) -> None:
        """Log where things turned bad or good, not each time."""
        if problem and not self.tally.problem:
            log.warning("load figures unknown: %s", problem)
        if self.tally.problem and not problem:
            log.info("load figures are complete again")
        self.tally.problem = problem
