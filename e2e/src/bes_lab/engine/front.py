"""What one engine of an emulated GPU answers: requests, models, health, metrics, and commands to misbehave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson

from bes_api.engines import ENGINES
from bes_api.engines.facts import Case
from bes_api.scenario import Scenario
from bes_api.service import EngineType
from bes_lab.engine.answer import Answer, Host
from bes_lab.engine.dialect import Counters, Dialect, ErrorReply, Identity, Reading
from bes_lab.engine.faults import Busy, Fault, FaultError, Faults, Hitting, Refuse, Slow, Stall, Target, read_fault
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.engine.http import Exchange, Message, Pending
from bes_lab.engine.misbehaviour import spoiled
from bes_lab.engine.request import Limits, RefusedError, Wanted, parse
from bes_lab.engine.tgi_dialect import TGIDialect
from bes_lab.engine.vllm_dialect import VLLMDialect

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
COMPLETIONS, CHAT = b"/v1/completions", b"/v1/chat/completions"
METRICS, MODELS = b"/metrics", b"/v1/models"
COMMANDS = b"/emulated/fault"
_TARGETS = {COMPLETIONS: Target.REQUESTS, CHAT: Target.REQUESTS, METRICS: Target.METRICS}
_DIALECTS: Mapping[EngineType, Callable[[], Dialect]] = {
    EngineType.VLLM: VLLMDialect,
    EngineType.EMULATED: VLLMDialect,
    EngineType.TEXT_GENERATION_INFERENCE: TGIDialect,
}


class Surroundings(Protocol):
    """What an engine asks of the process around it."""

    def now(self) -> float:
        """The monotonic clock that its GPU runs on."""
        ...

    def touched(self) -> None:
        """The GPU's next visible instant may have changed."""
        ...

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while."""
        ...

    def refuse(self, engine: int, seconds: float) -> None:
        """Close the engine's listening socket for a while."""
        ...


@dataclass(frozen=True)
class Place:
    """An engine's identity within its scenario."""

    model: str
    replica: int
    engine: int
    type: EngineType


class Front:
    """One engine."""

    def __init__(self, place: Place, limits: Limits, gpu: VirtualGPU, around: Surroundings, started: int) -> None:
        self.place = place
        self._limits = limits
        self._gpu = gpu
        self._around = around
        self._started = started
        self._dialect = _DIALECTS[place.type]()
        self._health = ENGINES[place.type].health_path.encode()
        self._targets = {**_TARGETS, self._health: Target.HEALTH}
        most = self._dialect.rules.most_requests
        self._most = None if most is None else most(limits.max_batch_size)
        self._counters = Counters()
        self._host = Host(place.engine, gpu, self._dialect, self._counters, around.now, around.touched)
        self._faults = Faults()
        self._frozen = ""
        self._pages = self._dialect.pages(limits)

    def handle(self, message: Message, exchange: Exchange) -> Pending | None:
        """Answer at once, or return what will answer."""
        path = message.path
        if path == COMMANDS:
            self._command(message, exchange)
            return None
        if self._faults:
            fault = self._faults.hit(self._targets.get(path, Target.EVERYTHING), self._around.now())
            if fault is not None:
                return self._misbehave(fault, message, exchange)
            if self._faults.has("loading", self._around.now()):
                self._refuse_loading(path, exchange)
                return None
        return self._answer(message, exchange)

    def begin(self, fault: Fault) -> None:
        """Put a fault in force."""
        now = self._around.now()
        self._gpu.advance(now)
        if fault.kind == "frozen-metrics":
            self._frozen = self.metrics()
        self._faults.begin(fault, now)
        match fault:
            case Refuse():
                self._around.refuse(self.place.engine, fault.for_seconds)
            case Slow():
                self._gpu.slow_down(self.place.engine, fault.factor)
                if fault.for_seconds is not None:
                    self._around.later(fault.for_seconds, self._recover)
        self._around.touched()

    def clear(self) -> None:
        """End every fault."""
        self._faults.clear()
        self._recover()

    def metrics(self) -> str:
        """The metrics page: only the past and the present, never what virtual time already knows of the future."""
        engine = self.place.engine
        running, waiting = self._gpu.running(engine), self._gpu.waiting(engine)
        reading = Reading(self._limits, running, waiting, self._gpu.kv_used(engine), self._counters)
        return self._dialect.metrics(reading)

    def _answer(self, message: Message, exchange: Exchange) -> Pending | None:
        path = message.path
        if path in (COMPLETIONS, CHAT):
            if message.method == b"POST":
                return self._complete(message.body, exchange, chat=path == CHAT)
            _send(exchange, self._dialect.refusal(405, "Method Not Allowed"))
        elif path == METRICS:
            self._gpu.advance(self._around.now())
            page = self._frozen if self._faults.has("frozen-metrics", self._around.now()) else self.metrics()
            exchange.reply(200, page.encode(), TEXT)
            self._around.touched()
        elif path == self._health:
            exchange.reply(200, b"", TEXT)
        elif path == MODELS:
            exchange.reply(200, self._dialect.models(self._limits, self._started))
        elif path in self._pages:
            exchange.reply(200, self._pages[path])
        else:
            _send(exchange, self._dialect.error(Case.UNKNOWN_PATH, "Not Found"))
        return None

    def _complete(self, body: bytes, exchange: Exchange, *, chat: bool) -> Pending | None:
        counters, dialect = self._counters, self._dialect
        counters.asked += 1
        try:
            wanted = parse(body, chat=chat, rules=dialect.rules, limits=self._limits)
        except RefusedError as error:
            _send(exchange, dialect.error(error.case, str(error), error.kind))
            return None
        now = self._around.now()
        self._gpu.advance(now)
        kind = "chatcmpl" if chat else "cmpl"
        name = f"{kind}-{self.place.engine:x}-{counters.asked:012x}"
        answer = Answer(self._host, wanted, exchange, Identity(name, self._started, self.place.model))
        if self._is_full(wanted) or not answer.submit(now):
            _send(exchange, dialect.error(Case.OVERLOADED, "this emulated GPU holds as many requests as it can"))
        self._around.touched()
        return answer

    def _is_full(self, wanted: Wanted) -> bool:
        if self._most is None:
            return False
        engine = self.place.engine
        return self._gpu.running(engine) + self._gpu.waiting(engine) + len(wanted.choices) > self._most

    def _misbehave(self, fault: Hitting, message: Message, exchange: Exchange) -> Pending | None:
        match fault:
            case Stall():
                return _Stalled()
            case Busy():
                reply = self._dialect.error(Case.OVERLOADED, "told to be busy")
                if reply.status != fault.status:
                    reply = self._dialect.refusal(fault.status, "told to be busy")
                _send(exchange, reply)
                return None
        return self._answer(message, spoiled(fault, exchange))

    def _refuse_loading(self, path: bytes, exchange: Exchange) -> None:
        unhealthy = self._dialect.error(Case.UNHEALTHY, "unhealthy")
        if path == self._health or unhealthy.body:
            _send(exchange, unhealthy)
        else:
            _send(exchange, self._dialect.refusal(unhealthy.status, "the model is still loading"))

    def _command(self, message: Message, exchange: Exchange) -> None:
        try:
            if message.method == b"POST":
                self.begin(read_fault(message.body))
            elif message.method == b"DELETE":
                self.clear()
            elif message.method != b"GET":
                exchange.reply(405, _complaint("use POST to command a fault, GET to list them, DELETE to clear them"))
                return
        except FaultError as error:
            exchange.reply(400, _complaint(str(error)))
            return
        faults = [{**each.fault.model_dump(), "hits": each.hits} for each in self._faults.in_force(self._around.now())]
        exchange.reply(200, orjson.dumps({"faults": faults}))

    def _recover(self) -> None:
        now = self._around.now()
        if not self._faults.has("slow", now):
            self._gpu.advance(now)
            self._gpu.slow_down(self.place.engine, 1.0)
            self._around.touched()


class _Stalled:
    def abandon(self) -> None:
        """Nothing was begun."""


def _send(exchange: Exchange, reply: ErrorReply) -> None:
    exchange.reply(reply.status, reply.body)


def _complaint(message: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "FaultCommandError"}})


def fronts_of(
    scenario: Scenario, types: Mapping[str, EngineType], gpu: VirtualGPU, around: Surroundings, started: int
) -> list[Front]:
    """The engines of one GPU, in the order of ``gpu.engines``; ``types`` by model, Emulated where it says nothing."""
    placed = [(model, replica) for model in scenario.models for replica in range(model.max_replicas)]
    fronts = []
    for engine in gpu.engines:
        model, replica = placed[engine]
        limits = Limits(model.name, model.context_tokens, model.kv_cache_tokens, model.max_batch_size)
        place = Place(model.name, replica, engine, types.get(model.name, EngineType.EMULATED))
        fronts.append(Front(place, limits, gpu, around, started))
    return fronts
