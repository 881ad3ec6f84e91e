"""What the formula says about given requests on one engine: the simulator's own engine, run in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from bes_api.engines import ENGINES
from bes_api.profile import ModelProfile
from bes_api.scenario import Batching, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_api.service import EngineType
from bes_lab.engine.gpu import VirtualGPU
from bes_lab.profile.wire import Answer
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.formula import predicted_finish

_BUDGETS = {
    facts.batching: facts.prefill_token_budget
    for facts in (ENGINES[EngineType.TEXT_GENERATION_INFERENCE], ENGINES[EngineType.VLLM])
}


Runs = Sequence[Sequence[Answer]]
"""Open loops, each of which began when nothing was left of the one before."""


@dataclass(frozen=True)
class Errors:
    """How far a forecast is from what was measured; relative, 0.05 = 5 %."""

    median: float
    """Of the requests' absolute errors."""
    p90: float
    mean_latency: float
    """Of the mean latency of all, with its sign: above 0 where the forecast is too long."""
    batching: Batching
    """The batching under which the forecast was made."""


class _Sequence:
    """Notes when its last token existed."""

    streamed = True  # told of every iteration, so that the instant is exact

    def __init__(self, clock: "_Clock") -> None:
        self._clock = clock
        self.done = inf

    def progress(self, _tokens: int) -> None:
        """Nothing to note."""

    def finished(self) -> None:
        """All tokens exist."""
        self.done = self._clock.now


class _Clock:
    now = 0.0


def scenario_of_engine(profile: ModelProfile, batching: Batching) -> Scenario:
    """One engine alone on one GPU."""
    context = profile.kv_cache_tokens
    model = ScenarioModel(
        name="engine",
        latency=profile.latency,
        batching=batching,
        prefill_token_budget=_BUDGETS[batching],
        max_batch_size=profile.max_batch_size,
        kv_cache_tokens=profile.kv_cache_tokens,
        context_tokens=context,
        placement=(0,),
    )
    task = ScenarioTask(
        name="any",
        full_until_seconds=1.0,
        zero_from_seconds=1.0,
        quality={"engine": 1.0},
        prompt_tokens=1,
        output_tokens=1,
    )
    return Scenario(gpus=(ScenarioGPU(),), models=(model,), tasks=(task,), default_task="any")


def latencies(profile: ModelProfile, batching: Batching, answers: Sequence[Answer]) -> list[float]:
    """Seconds that each of ``answers`` should have taken, sent when they were sent and as long as they were."""
    gpu = VirtualGPU(catalogue_of(scenario_of_engine(profile, batching)), 0)
    clock = _Clock()
    order = sorted(range(len(answers)), key=lambda index: answers[index].sent)
    origin = answers[order[0]].sent
    sequences = [_Sequence(clock) for _ in answers]
    for index in order:
        answer = answers[index]
        _run_until(gpu, clock, answer.sent - origin)
        gpu.submit(0, clock.now, answer.prompt_tokens, max(1, answer.output_tokens), sequences[index])
    _run_until(gpu, clock, inf)
    return [sequence.done - (answer.sent - origin) for sequence, answer in zip(sequences, answers, strict=True)]


def _run_until(gpu: VirtualGPU, clock: _Clock, limit: float) -> None:
    while (at := gpu.next_visible()) <= limit and at < inf:
        clock.now = at
        gpu.advance(at)
    if limit < inf:
        clock.now = limit
        gpu.advance(limit)


def errors(profile: ModelProfile, batching: Batching, runs: Runs, round_trip: float) -> Errors:
    """The forecast of ``runs`` against themselves; ``round_trip``: seconds of each answer that are not the engine's."""
    measured = np.array([answer.seconds for run in runs for answer in run])
    forecast = np.concatenate([latencies(profile, batching, run) for run in runs]) + round_trip
    relative = np.abs(forecast - measured) / measured
    mean = float(forecast.mean() / measured.mean() - 1.0)
    return Errors(float(np.median(relative)), float(np.percentile(relative, 90)), mean, batching)


def likelier(profile: ModelProfile, runs: Runs, round_trip: float) -> Errors:
    """The errors under the batching that explains ``runs`` better."""
    return min((errors(profile, batching, runs, round_trip) for batching in Batching), key=lambda found: found.median)


def rate_for(profile: ModelProfile, in_flight: float, prompt: float, output: float) -> float:
    """Requests/s that keep about ``in_flight`` requests in the engine, by Little's law."""
    catalogue = catalogue_of(scenario_of_engine(profile, Batching.PREFILL_FIRST))
    return in_flight / predicted_finish(catalogue, 0, max(0.0, in_flight - 1.0), round(prompt), round(output))
