"""One request in an emulated engine: its sequences on the GPU, and the answer that they make together."""

from collections.abc import Callable
from dataclasses import dataclass

from bes_lab.engine.dialect import Counters, Dialect, Identity
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.engine.http import Exchange
from bes_lab.engine.request import Wanted

_GONE = -1


@dataclass(frozen=True, slots=True)
class Host:
    """What an answer needs of the engine that gives it. ``touched`` is called after every change."""

    engine: int
    gpu: VirtualGPU
    dialect: Dialect
    counters: Counters
    clock: Callable[[], float]
    touched: Callable[[], None]


class Answer:
    """See the module."""

    __slots__ = ("_began", "_exchange", "_host", "_identity", "_left", "_slots", "_wanted")

    def __init__(self, host: Host, wanted: Wanted, exchange: Exchange, identity: Identity) -> None:
        self._host = host
        self._wanted = wanted
        self._exchange = exchange
        self._identity = identity
        self._left = len(wanted.choices)
        self._slots: list[int] = []
        self._began = 0.0

    def submit(self, now: float) -> bool:
        """Queue every choice after ``advance(now)``, or none."""
        host, wanted = self._host, self._wanted
        each = wanted.choices_per_prompt
        for index, output in enumerate(wanted.choices):
            sequence = _Sequence(self, index, output.tokens, wanted.stream)
            slot = host.gpu.submit(host.engine, now, wanted.prompts[index // each], output.tokens, sequence)
            if slot is None:
                for queued in self._slots:
                    host.gpu.cancel(host.engine, queued, now)
                return False
            self._slots.append(slot)
        self._began = now
        host.counters.prompt_tokens += sum(wanted.prompts)
        if wanted.stream:
            self._exchange.begin_stream()
        return True

    def abandon(self) -> None:
        """The client has gone: what is left of it leaves the batch, as the engines do it."""
        host, now = self._host, self._host.clock()
        host.gpu.advance(now)
        for slot in self._slots:
            if slot != _GONE:
                host.gpu.cancel(host.engine, slot, now)
        if self._left:
            host.counters.aborted += 1
        host.touched()

    def progressed(self, choice: int, first: int, until: int) -> None:
        """The tokens ``first .. until - 1`` of a streamed choice exist."""
        self._exchange.send(self._host.dialect.tokens(self._identity, self._wanted, choice, first, until))

    def ended(self, choice: int) -> None:
        """A choice has all its tokens."""
        host, wanted = self._host, self._wanted
        self._slots[choice] = _GONE
        self._left -= 1
        host.counters.generation_tokens += wanted.choices[choice].tokens
        if self._left:
            return
        if wanted.choices[0].stop is None:
            host.counters.length += 1
        else:
            host.counters.stop += 1
        if wanted.stream:
            self._exchange.send(host.dialect.closing(self._identity, wanted))
            self._exchange.end_stream()
            return
        headers = host.dialect.headers(wanted, host.clock() - self._began)
        self._exchange.reply(200, host.dialect.whole(self._identity, wanted), headers=headers)


class _Sequence:
    """One choice on the GPU."""

    __slots__ = ("_answer", "_choice", "_sent", "_tokens", "streamed")

    def __init__(self, answer: Answer, choice: int, tokens: int, streamed: bool) -> None:
        self._answer = answer
        self._choice = choice
        self._tokens = tokens
        self._sent = 0
        self.streamed = streamed

    def progress(self, tokens: int) -> None:
        """Stream what is new."""
        self._answer.progressed(self._choice, self._sent, tokens)
        self._sent = tokens

    def finished(self) -> None:
        """Stream the rest, and let the request know."""
        if self.streamed:
            self.progress(self._tokens)
        self._answer.ended(self._choice)
