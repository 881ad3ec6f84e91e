"""What is asked of an engine: bursts of equal requests for the fit, then an open loop of another mix for the check."""

import random
from dataclasses import dataclass

from bes_lab.errors import ProfileError

MAX_REQUESTS = 5000
PROBES = 5
"""Requests for nothing but the time to their first token, for each length and repeat: they are short, so many."""
PROBE_OUTPUT_TOKENS = 2


@dataclass(frozen=True)
class Settings:
    """Sizes of the measurement; lengths in tokens."""

    prompt_tokens: tuple[int, ...] = (32, 128, 512)
    output_tokens: int = 48
    concurrency: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 4
    check_requests: int = 60
    seed: int = 0
    max_seconds: float = 300.0

    def check(self) -> None:
        """Raise ProfileError for what could not tell the constants apart, or would not be bounded."""
        if len(set(self.prompt_tokens)) < 2 or min(self.prompt_tokens) < 1:
            raise ProfileError("--prompt-tokens: give at least two lengths, such as 32,128,512")
        if 1 not in self.concurrency or len(set(self.concurrency)) < 2 or min(self.concurrency) < 1:
            raise ProfileError("--concurrency: give 1 and at least one more, such as 1,2,4,8")
        if self.output_tokens < 8:
            raise ProfileError(f"--output-tokens {self.output_tokens}: give at least 8, or steps cannot be timed")
        if self.repeats < 1 or self.check_requests < 1:
            raise ProfileError("--repeats and --check-requests: give at least 1")
        if not 0 < self.max_seconds < 1e6:
            raise ProfileError(f"--max-seconds {self.max_seconds:g}: give a number above 0")
        if self.requests > MAX_REQUESTS:
            raise ProfileError(
                f"{self.requests} requests are more than {MAX_REQUESTS}: ask for fewer levels or repeats"
            )

    @property
    def requests(self) -> int:
        """Requests of the whole measurement, without the two that calibrate."""
        return len(self.prompt_tokens) * (sum(self.concurrency) + PROBES) * self.repeats + self.check_requests


@dataclass(frozen=True)
class Burst:
    """``concurrency`` equal requests sent at one instant."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int


@dataclass(frozen=True)
class Due:
    """One request of an open loop."""

    second: float
    prompt_tokens: int
    output_tokens: int


def bursts_of(settings: Settings, repeat: int) -> list[Burst]:
    """Every combination once, in an order that is another one in every repeat, so that drift hits all alike."""
    grid = [
        Burst(prompt, settings.output_tokens, concurrency)
        for prompt in settings.prompt_tokens
        for concurrency in settings.concurrency
    ]
    grid += [Burst(prompt, PROBE_OUTPUT_TOKENS, 1) for prompt in settings.prompt_tokens for _ in range(PROBES)]
    return random.Random(f"{settings.seed} {repeat}").sample(grid, len(grid))


def lengths_of_check(settings: Settings) -> list[tuple[int, int]]:
    """Prompt and output of each request of the check: anything between the extremes, none of the fit's own shape."""
    generator = random.Random(settings.seed + 1)
    shortest, longest = min(settings.prompt_tokens), max(settings.prompt_tokens)
    return [
        (
            round(shortest * (longest / shortest) ** generator.random()),
            generator.randint(settings.output_tokens // 4, settings.output_tokens),
        )
        for _ in range(settings.check_requests)
    ]


def open_loop(settings: Settings, rate: float, repeat: int) -> list[Due]:
    """The part of the check that follows one repeat of the bursts, as a Poisson process of ``rate`` requests/s."""
    generator = random.Random(f"{settings.seed} {repeat} arrivals")
    second = 0.0
    schedule = []
    for prompt, output in lengths_of_check(settings)[repeat :: settings.repeats]:
        schedule.append(Due(second, prompt, output))
        second += generator.expovariate(rate)
    return schedule
