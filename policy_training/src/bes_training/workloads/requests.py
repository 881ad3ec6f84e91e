"""From arrival instants to requests: task mixes with abrupt shifts, lengths, routers."""

from typing import NamedTuple, Self

import numpy as np

from bes_training.workloads.workload import Floats, Ints, Setting, Workload


class TaskMix(NamedTuple):
    """Shares of the tasks over time: ``weights[s]`` holds from ``starts[s]`` (seconds, the first 0) to the next."""

    starts: Floats  # [S]
    weights: Floats  # [S, T], rows add up to 1

    @classmethod
    def given(cls, shares: Floats) -> Self:
        """One mix throughout, proportional to ``shares``."""
        return cls(np.zeros(1), (shares / shares.sum())[None, :])

    @classmethod
    def uniform(cls, tasks: int) -> Self:
        """Every task equally often."""
        return cls.given(np.ones(tasks))

    @classmethod
    def shifting(
        cls, rng: np.random.Generator, tasks: int, *, dominant: float, mean_dwell_seconds: float, duration: float
    ) -> Self:
        """One task has the share ``dominant`` (0.9, 0.95), the others split the rest; which one changes abruptly.

        Changes come after exponential times of mean ``mean_dwell_seconds`` and always to another task.
        """
        if tasks == 1:
            return cls.uniform(1)
        changes = rng.poisson(duration / mean_dwell_seconds)
        starts = np.concatenate(([0.0], np.sort(rng.random(changes)) * duration))
        steps = rng.integers(1, tasks, changes + 1)
        steps[0] = rng.integers(tasks)
        weights = np.full((changes + 1, tasks), (1 - dominant) / (tasks - 1))
        weights[np.arange(changes + 1), np.cumsum(steps) % tasks] = dominant
        return cls(starts, weights)

    def draw(self, rng: np.random.Generator, time: Floats) -> Ints:
        """A task for each arrival."""
        segments, tasks = self.weights.shape
        summed = np.cumsum(self.weights, axis=1)
        if segments == 1:
            drawn = np.searchsorted(summed[0], rng.random(len(time)), side="right")
            return _below(drawn, tasks)
        segment = np.searchsorted(self.starts[1:], time, side="right")
        # All rows are searched at once: row s is shifted to s..s+1.
        summed[:, -1] = 1.0
        rows = (summed + np.arange(segments)[:, None]).ravel()
        drawn = np.searchsorted(rows, segment + rng.random(len(time)), side="right") - segment * tasks
        return _below(drawn, tasks)


def assign_routers(rng: np.random.Generator, count: int, shares: Floats) -> Ints:
    """The router of each of ``count`` requests; router r receives the share ``shares[r]`` (normalised)."""
    if len(shares) == 1:
        return np.zeros(count, np.int64)
    summed = np.cumsum(shares / shares.sum())
    return _below(np.searchsorted(summed, rng.random(count), side="right"), len(shares))


def assemble(
    rng: np.random.Generator,
    identity: str,
    time: Floats,
    duration: float,
    setting: Setting,
    mix: TaskMix,
    *,
    router_shares: Floats | None = None,
    length_cv: float = 0.0,
) -> Workload:
    """Requests at the instants ``time``. Lengths are the task's, spread log-normally where ``length_cv`` is above 0."""
    task = mix.draw(rng, time)
    prompt, output = setting.prompt_tokens[task], setting.output_tokens[task]
    if length_cv > 0:
        prompt, output = _spread(rng, prompt, length_cv), _spread(rng, output, length_cv)
    shares = np.ones(1) if router_shares is None else router_shares
    router = assign_routers(rng, len(time), shares)
    return Workload(identity, time, task, prompt, output, router, duration)


def _below(drawn: Ints, count: int) -> Ints:
    """Summed shares may end a rounding below 1, and a draw above them."""
    result: Ints = np.minimum(drawn, count - 1)
    return result


def _spread(rng: np.random.Generator, tokens: Ints, cv: float) -> Ints:
    """Log-normal lengths with mean ``tokens`` and the given CV, at least 1 and at most 4 times the mean.

    The cap keeps a draw inside a context that the typical length fits four times.
    """
    variance = np.log1p(cv * cv)
    drawn = tokens * np.exp(rng.normal(-variance / 2, np.sqrt(variance), len(tokens)))
    return np.clip(np.rint(drawn), 1, 4 * tokens).astype(np.int64)
