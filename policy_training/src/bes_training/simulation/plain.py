"""The service's simulator as one would write it in plain Python: objects, queues and a heap of events.

It runs policies that are not compiled (one's own), and is compared with: `bes bench simulator` states how much quicker
the compiled one is, and a test holds both to the same outcomes. It shares the router's policy and load view with the
compiled one, and nothing of the engines. One router, live figures; requests that miss their deadline finish; nothing
dies.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, nan

import numpy as np

from bes_api.errors import ScenarioError
from bes_api.scenario import Scenario
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Catalogue, RoutingRequest
from bes_router.policy.reward import reward_share
from bes_router.policy.tracker import LoadTracker
from bes_training.simulation.engines import FINISHED
from bes_training.simulation.kernel import NO_MODEL, REFUSED
from bes_training.simulation.simulate import Outcomes
from bes_training.workloads.workload import Workload


@dataclass(slots=True)
class Request:
    """One request and what became of it; instants in seconds, ``engine`` -1 if it was refused."""

    arrived: float
    task: int
    prompt: int
    output: int
    engine: int = -1
    first_token: float = nan
    finished: float = nan
    refused: bool = False
    """By admission: the policy was not asked."""
    decoded: int = 0
    prefilled: int = 0


@dataclass(slots=True, eq=False)
class Engine:
    """One replica: a queue, a running batch and, while it works, one iteration."""

    number: int
    model: int
    gpu: "GPU"
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    entering: list[Request] = field(default_factory=list)
    """Requests whose prompt the current iteration completes."""
    reserved_tokens: int = 0
    decodes: bool = False
    left: float = inf
    """Seconds of undisturbed work until the current iteration ends; infinity while idle."""


@dataclass(slots=True, eq=False)
class GPU:
    """Engines that share one device, each slowed by the others that are at work."""

    interference: float
    engines: list[Engine] = field(default_factory=list)
    at: float = 0.0
    version: int = 0
    """Raised whenever the next end changes, so that an event of an older plan is known as stale."""

    def slowdown(self) -> float:
        """Real seconds per second of undisturbed work."""
        busy = sum(engine.left < inf for engine in self.engines)
        return 1.0 + self.interference * (busy - 1) if busy > 1 else 1.0

    def advance(self, now: float) -> None:
        """Let every engine at work do what it could since the last look."""
        done = (now - self.at) / self.slowdown()
        for engine in self.engines:
            engine.left -= done
        self.at = now


class PlainSimulator:
    """Engines on GPUs in front of which a policy decides. ``run`` once per object."""

    def __init__(self, catalogue: Catalogue, policy: Policy, max_in_flight: int) -> None:
        self.catalogue = catalogue
        self.policy = policy
        self.max_in_flight = max_in_flight
        self.tracker = LoadTracker(catalogue, 0.0)
        self.gpus = [GPU(interference) for interference in catalogue.interference]
        self.engines = [
            Engine(number, catalogue.engine_model[number], self.gpus[gpu])
            for number, gpu in enumerate(catalogue.engine_gpu)
        ]
        for engine in self.engines:
            engine.gpu.engines.append(engine)
        self.events: list[tuple[float, int, GPU, int]] = []
        self.sequence = 0

    def run(self, requests: Sequence[Request]) -> None:
        """Serve ``requests`` (in order of arrival) to the last one; their fields say how each ended."""
        for request in requests:
            self._process_until(request.arrived)
            self._route(request)
        self._process_until(inf)

    def _route(self, request: Request) -> None:
        now = request.arrived
        catalogue = self.catalogue
        self.tracker.arrived(now)
        if self.tracker.in_flight >= self.max_in_flight:
            request.refused = True
            return
        decision = self.policy.choose(
            RoutingRequest(
                task=request.task,
                prompt_tokens=request.prompt,
                output_tokens=request.output,
                full_until=now + catalogue.full_until[request.task],
                zero_from=now + catalogue.zero_from[request.task],
            ),
            self.tracker.view(now),
            now,
        )
        request.engine = decision.engine
        if decision.engine < 0:
            return
        self.tracker.sent(decision.engine, now)
        engine = self.engines[decision.engine]
        engine.gpu.advance(now)
        engine.waiting.append(request)
        if engine.left == inf:
            self._begin(engine)
            self._plan(engine.gpu)

    def _process_until(self, limit: float) -> None:
        while self.events and self.events[0][0] <= limit:
            now, _, gpu, version = heapq.heappop(self.events)
            if version != gpu.version:
                continue
            gpu.advance(now)
            engine = min(gpu.engines, key=lambda each: each.left)
            self._end(engine, now)
            self._begin(engine)
            self._plan(gpu)

    def _plan(self, gpu: GPU) -> None:
        gpu.version += 1
        soonest = min(engine.left for engine in gpu.engines)
        if soonest < inf:
            self.sequence += 1
            instant = gpu.at + max(0.0, soonest) * gpu.slowdown()
            heapq.heappush(self.events, (instant, self.sequence, gpu, gpu.version))

    def _end(self, engine: Engine, now: float) -> None:
        if engine.decodes:
            for request in engine.running:
                request.decoded += 1
            for request in [each for each in engine.running if each.decoded == each.output]:
                engine.running.remove(request)
                self._finish(engine, request, now)
        for request in engine.entering:
            request.first_token = now
            request.decoded = 1
            if request.output <= 1:
                self._finish(engine, request, now)
            else:
                engine.running.append(request)
        engine.entering.clear()

    def _finish(self, engine: Engine, request: Request, now: float) -> None:
        request.finished = now
        engine.reserved_tokens -= request.prompt + request.output
        self.tracker.finished(engine.number)

    def _begin(self, engine: Engine) -> None:
        """Form the next iteration: prompts first, or prompts beside the decoding sequences where prefill is chunked."""
        constants, model = self.catalogue, engine.model
        prompts = self._take_prompts(engine)
        batch = len(engine.running)
        context = sum(request.prompt + request.decoded for request in engine.running)
        decode = constants.decode_sequence[model] * batch + constants.decode_context[model] * context
        prefill = constants.prefill_token[model] * prompts
        if prompts == 0 and batch == 0:
            engine.left = inf
        elif constants.chunked[model]:
            base = constants.decode_base[model]
            engine.left = (max(base, constants.prefill_base[model]) if prompts else base) + prefill + decode
        elif prompts:
            engine.left = constants.prefill_base[model] + prefill
        else:
            engine.left = constants.decode_base[model] + decode
        engine.decodes = batch > 0 and (prompts == 0 or bool(constants.chunked[model]))

    def _take_prompts(self, engine: Engine) -> int:
        constants, model = self.catalogue, engine.model
        budget = constants.prefill_budget[model]
        tokens = 0
        while engine.waiting:
            request = engine.waiting[0]
            if request.prefilled == 0 and not self._fits(engine, request):
                break
            rest = request.prompt - request.prefilled
            if tokens + rest > budget:
                if constants.chunked[model] and tokens < budget:
                    if request.prefilled == 0:
                        engine.reserved_tokens += request.prompt + request.output
                    request.prefilled += budget - tokens
                    tokens = budget
                if constants.chunked[model] or tokens > 0:
                    break
            if request.prefilled == 0:
                engine.reserved_tokens += request.prompt + request.output
            engine.entering.append(engine.waiting.popleft())
            tokens += rest
        return tokens

    def _fits(self, engine: Engine, request: Request) -> bool:
        constants, model = self.catalogue, engine.model
        if len(engine.running) + len(engine.entering) >= constants.max_batch[model]:
            return False
        needed = engine.reserved_tokens + request.prompt + request.output
        return needed <= constants.kv_tokens[model] or engine.reserved_tokens == 0


def requests_of(workload: Workload) -> list[Request]:
    """The requests of ``workload`` before anything has become of them."""
    columns = (workload.time, workload.task, workload.prompt_tokens, workload.output_tokens)
    return [Request(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def simulate_plainly(scenario: Scenario, workload: Workload, policy: Policy) -> Outcomes:
    """What becomes of ``workload`` under any policy object, one router. Raises ScenarioError where a task aborts."""
    catalogue = catalogue_of(scenario)
    if any(catalogue.abort):
        raise ScenarioError(
            "a task has onMiss: Abort, which a policy of one's own cannot be simulated with; use Finish"
        )
    requests = requests_of(workload)
    PlainSimulator(catalogue, policy, scenario.max_in_flight).run(requests)
    models = len(catalogue.context)
    rows = [_outcome(catalogue, models, request) for request in requests]
    model, engine, latency, reward, peak, share, status = (np.array(column) for column in zip(*rows, strict=True))
    return Outcomes(workload.time, workload.task, model, engine, latency, reward, peak, share > 0.0, status)


def _outcome(catalogue: Catalogue, models: int, request: Request) -> tuple[int, int, float, float, float, float, int]:
    task, peak = request.task, catalogue.best_quality[request.task]
    if request.engine < 0:
        return -1, -1, nan, 0.0, peak, 0.0, REFUSED if request.refused else NO_MODEL
    model = catalogue.engine_model[request.engine]
    measured = request.first_token if catalogue.first_token[task] else request.finished
    share = reward_share(measured - request.arrived, catalogue.full_until[task], catalogue.zero_from[task])
    reward = share * max(0.0, catalogue.quality[task * models + model])
    return model, request.engine, request.finished - request.arrived, reward, peak, share, FINISHED
