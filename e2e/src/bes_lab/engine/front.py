"""What an engine of an emulated GPU answers: completions, models, health and vLLM's metrics."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bes_api.scenario import Scenario
from bes_lab.engine import completions
from bes_lab.engine.completions import Completion, RefusedError
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.engine.http import Exchange, Message, Pending

TEXT = b"text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Counters:
    """What an engine has done since it started."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: int = 0
    aborted: int = 0


@dataclass(frozen=True)
class Front:
    """One engine. ``touched`` is called after every change, so that the owner can set its timer anew."""

    name: str
    replica: int
    engine: int
    context_tokens: int
    kv_cache_tokens: int
    gpu: VirtualGPU
    clock: Callable[[], float]
    started: int
    """Wall clock of the process's start, for `created`."""
    touched: Callable[[], None]
    counters: Counters = field(default_factory=Counters)
    serial: list[int] = field(default_factory=lambda: [0])

    def handle(self, message: Message, exchange: Exchange) -> Pending | None:
        """Answer at once, or return what will answer."""
        if message.path == b"/v1/completions":
            if message.method != b"POST":
                exchange.reply(405, completions.error_body(405, "use POST"))
                return None
            return self._complete(message.body, exchange)
        if message.path == b"/metrics":
            self.gpu.advance(self.clock())
            exchange.reply(200, self.metrics().encode(), TEXT)
            self.touched()
        elif message.path == b"/health":
            exchange.reply(200, b"", TEXT)
        elif message.path == b"/v1/models":
            exchange.reply(200, completions.model_list(self.name, self.started, self.context_tokens))
        else:
            exchange.reply(404, completions.error_body(404, f"no such path: {message.path.decode('latin-1')}"))
        return None

    def metrics(self) -> str:
        """vLLM's names; only the past and the present, never what virtual time already knows of the future."""
        label = f'{{model_name="{self.name}",engine="0"}}'
        counters = self.counters
        kv_share = self.gpu.kv_used(self.engine) / self.kv_cache_tokens
        finished = f'{{model_name="{self.name}",engine="0",finished_reason='
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{label} {self.gpu.running(self.engine)}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{label} {self.gpu.waiting(self.engine)}",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{label} {kv_share:.6f}",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{label} {counters.prompt_tokens}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{label} {counters.generation_tokens}",
            "# TYPE vllm:request_success_total counter",
            f'vllm:request_success_total{finished}"length"}} {counters.finished}',
            f'vllm:request_success_total{finished}"abort"}} {counters.aborted}',
        ]
        return "\n".join(lines) + "\n"

    def _complete(self, body: bytes, exchange: Exchange) -> Pending | None:
        try:
            request = completions.parse(body, self.name, self.context_tokens, self.kv_cache_tokens)
        except RefusedError as error:
            exchange.reply(error.status, completions.error_body(error.status, str(error)))
            return None
        now = self.clock()
        self.gpu.advance(now)
        self.serial[0] += 1
        answer = _Answer(self, request, exchange, f"cmpl-{self.engine:x}-{self.serial[0]:012x}")
        if not answer.submit(now):
            exchange.reply(503, completions.error_body(503, "this emulated GPU holds as many requests as it can"))
        self.touched()
        return answer


class _Answer:
    """One request in the engine: its prompts' sequences, and the answer that they make together."""

    __slots__ = ("exchange", "front", "identity", "left", "request", "slots")

    def __init__(self, front: Front, request: Completion, exchange: Exchange, identity: str) -> None:
        self.front = front
        self.request = request
        self.exchange = exchange
        self.identity = identity
        self.left = len(request.prompts)
        self.slots: list[int] = []

    def submit(self, now: float) -> bool:
        """Queue every prompt, or none."""
        front = self.front
        for index, tokens in enumerate(self.request.prompts):
            slot = front.gpu.submit(front.engine, now, tokens, self.request.max_tokens, _Prompt(self, index))
            if slot is None:
                for queued in self.slots:
                    front.gpu.cancel(front.engine, queued, now)
                return False
            self.slots.append(slot)
        front.counters.prompt_tokens += sum(self.request.prompts)
        if self.request.stream:
            self.exchange.begin_stream()
        return True

    def abandon(self) -> None:
        """The client has gone: what is left of it leaves the batch, as vLLM does it."""
        front, now = self.front, self.front.clock()
        front.gpu.advance(now)
        for slot in self.slots:
            if slot >= 0:
                front.gpu.cancel(front.engine, slot, now)
        if self.left:
            front.counters.aborted += 1
        front.touched()

    def ended(self, index: int) -> None:
        """The sequence of prompt ``index`` has all its tokens."""
        front, request = self.front, self.request
        self.slots[index] = -1
        self.left -= 1
        front.counters.generation_tokens += request.max_tokens
        if self.left:
            return
        front.counters.finished += 1
        if not request.stream:
            self.exchange.reply(200, completions.whole_answer(self.identity, front.started, front.name, request))
            return
        if request.include_usage:
            usage = completions.usage(request.prompts, request.max_tokens * len(request.prompts))
            self.exchange.send(completions.event(self.identity, front.started, front.name, None, usage=usage))
        self.exchange.send(b"data: [DONE]\n\n")
        self.exchange.end_stream()

    def send_tokens(self, index: int, first: int, until: int) -> None:
        """Stream the tokens ``first .. until - 1`` of prompt ``index``, one event each."""
        front, last = self.front, self.request.max_tokens - 1
        for token in range(first, until):
            choice = completions.token_choice(index, token, last=token == last)
            self.exchange.send(completions.event(self.identity, front.started, front.name, choice))


class _Prompt:
    """The sequence of one prompt of a request."""

    __slots__ = ("answer", "index", "sent", "streamed")

    def __init__(self, answer: _Answer, index: int) -> None:
        self.answer = answer
        self.index = index
        self.sent = 0
        self.streamed = answer.request.stream

    def progress(self, tokens: int) -> None:
        """Stream what is new."""
        self.answer.send_tokens(self.index, self.sent, tokens)
        self.sent = tokens

    def finished(self) -> None:
        """Stream the rest, and let the request know."""
        if self.streamed:
            self.progress(self.answer.request.max_tokens)
        self.answer.ended(self.index)


def fronts_of(
    scenario: Scenario, gpu: VirtualGPU, clock: Callable[[], float], started: int, touched: Callable[[], None]
) -> list[Front]:
    """The engines of one GPU, in the order of ``gpu.engines``."""
    placed = [(model, replica) for model in scenario.models for replica in range(model.max_replicas)]
    fronts = []
    for engine in gpu.engines:
        model, replica = placed[engine]
        fronts.append(
            Front(
                model.name,
                replica,
                engine,
                model.context_tokens,
                model.kv_cache_tokens,
                gpu,
                clock,
                started,
                touched,
            )
        )
    return fronts
