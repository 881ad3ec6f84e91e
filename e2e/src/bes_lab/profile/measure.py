"""Runs the plan against an engine: bursts, the fit, then an open loop that the fit has not seen."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

import numpy as np

from bes_api.profile import ModelProfile
from bes_lab.errors import ProfileError
from bes_lab.profile.fit import MeasuredBurst, fit, together, unrest_of
from bes_lab.profile.forecast import Errors, likelier, rate_for
from bes_lab.profile.plan import Burst, Due, Settings, bursts_of, lengths_of_check, open_loop
from bes_lab.profile.wire import Address, Answer, Engine

RESTLESS = 0.1
"""Repeats that differ by more say less about the engine than about what else runs."""
Progress = Callable[[int], None]
"""Told of how many requests more have been answered."""


@dataclass(frozen=True)
class Held:
    """Limits of the engine's memory, where whoever runs it knows them; None: what the measurement saw."""

    kv_cache_tokens: int | None = None
    max_batch_size: int | None = None


@dataclass(frozen=True)
class Profiled:
    """A fitted profile and how well it forecasts what it has not seen."""

    model: str
    profile: ModelProfile
    errors: Errors
    bursts: tuple[MeasuredBurst, ...]
    check: tuple[tuple[Answer, ...], ...]
    """The open loops, one after each repeat of the bursts."""
    round_trip: float
    """Seconds of each answer that HTTP took."""
    unrest: float
    """How far equal requests were from their median when repeated (median, relative): the machine's, not the fit's."""
    batch_is_capped: bool
    """Whether fewer requests were decoded together than were sent together."""

    @property
    def requests(self) -> int:
        """Requests that were measured."""
        return sum(len(measured.answers) for measured in self.bursts) + sum(map(len, self.check))


async def profile_engine(
    address: Address, model: str | None, settings: Settings, held: Held, progress: Progress
) -> Profiled:
    """Measure, fit and check one model of one engine. Raises ProfileError."""
    settings.check()
    try:
        async with asyncio.timeout(settings.max_seconds):
            async with Engine(address, model, settings.max_seconds) as engine:
                bursts, check = await _measure(engine, settings, held, progress)
    except TimeoutError:
        raise ProfileError(
            f"{address.url}: the measurement was not done within {settings.max_seconds:g} s; ask for fewer levels or "
            "repeats, or give --max-seconds"
        ) from None
    profile, capped = _profile(engine, bursts, held)
    errors = likelier(profile, check, engine.round_trip)
    unrest = unrest_of(bursts)
    source = (
        f"{profile.source}: {sum(len(measured.answers) for measured in bursts)} requests, which differed by "
        f"{unrest:.0%} when repeated; an open loop of {sum(map(len, check))} others was forecast with a median error "
        f"of {errors.median:.1%} (p90 {errors.p90:.1%})"
    )
    stated = profile.model_copy(update={"source": source})
    return Profiled(engine.model, stated, errors, tuple(bursts), check, engine.round_trip, unrest, capped)


async def _measure(
    engine: Engine, settings: Settings, held: Held, progress: Progress
) -> tuple[list[MeasuredBurst], tuple[tuple[Answer, ...], ...]]:
    """Bursts and parts of the check in turn: a machine that slows down or recovers meanwhile does so to both."""
    generator = random.Random(settings.seed + 4)

    async def send(burst: Burst) -> MeasuredBurst:
        prompts = [engine.prompt(burst.prompt_tokens, generator) for _ in range(burst.concurrency)]
        return MeasuredBurst(burst, await _all([engine.ask(prompt, burst.output_tokens) for prompt in prompts]))

    # Engines allocate when they first see a size: the largest of all is sent once for nothing.
    await send(Burst(max(settings.prompt_tokens), settings.output_tokens, max(settings.concurrency)))
    bursts: list[MeasuredBurst] = []
    check = []
    for repeat in range(settings.repeats):
        for burst in bursts_of(settings, repeat):
            bursts.append(await send(burst))
            progress(burst.concurrency)
        profile, _ = _profile(engine, bursts, held)
        prompt, output = (float(np.mean(column)) for column in zip(*lengths_of_check(settings), strict=True))
        in_flight = 0.5 * min(max(settings.concurrency), profile.max_batch_size)
        schedule = open_loop(settings, rate_for(profile, in_flight, prompt, output), repeat)
        check.append(await play(engine, schedule, generator, progress))
    return bursts, tuple(part for part in check if part)


async def play(
    engine: Engine, schedule: Sequence[Due], generator: random.Random, progress: Progress
) -> tuple[Answer, ...]:
    """Send each request at its instant, whatever is still under way."""
    prompts = [engine.prompt(due.prompt_tokens, generator) for due in schedule]
    begin = time.monotonic()

    async def one(due: Due, prompt: str) -> Answer:
        await asyncio.sleep(max(0.0, begin + due.second - time.monotonic()))
        answer = await engine.ask(prompt, due.output_tokens)
        progress(1)
        return answer

    return await _all([one(due, prompt) for due, prompt in zip(schedule, prompts, strict=True)])


async def _all(requests: Sequence[Coroutine[None, None, Answer]]) -> tuple[Answer, ...]:
    """All answers, or the first error, with nothing left running."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(request) for request in requests]
    except* ProfileError as errors:
        first = errors.exceptions[0]
        raise first from None
    return tuple(task.result() for task in tasks)


def _profile(engine: Engine, bursts: Sequence[MeasuredBurst], held: Held) -> tuple[ModelProfile, bool]:
    """The fitted profile, and whether the engine decoded fewer requests together than it got."""
    latency = fit(bursts, engine.round_trip)
    asked = max(measured.burst.concurrency for measured in bursts)
    seen = max(together(measured.answers) for measured in bursts)
    tokens = max(
        sum(answer.prompt_tokens + answer.output_tokens for answer in measured.answers)
        for measured in bursts
        if together(measured.answers) >= min(seen, measured.burst.concurrency)
    )
    batch = held.max_batch_size or seen
    words = [] if held.max_batch_size else [f"batch: {seen} were decoded together of {asked} sent together"]
    words += [] if held.kv_cache_tokens else [f"KV cache: {tokens} tokens were held together, it may hold more"]
    profile = ModelProfile(
        latency=latency,
        kv_cache_tokens=held.kv_cache_tokens or tokens,
        max_batch_size=batch,
        source="; ".join((f"`bes profile` of {engine.model}", *words)),
    )
    return profile, seen < asked
