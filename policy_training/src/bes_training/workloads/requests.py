"""From arrival instants to requests: task mixes with abrupt shifts, lengths, routers and their shares."""

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np

from bes_training.workloads.workload import Floats, Ints, Setting, Workload


class Mix(NamedTuple):
    """Shares of the tasks, or of the routers, over time.

    ``weights[s]`` holds from ``starts[s]`` (seconds, the first 0) to the next.
    """

    starts: Floats  # [S]
    weights: Floats  # [S, K], rows add up to 1

    @classmethod
    def given(cls, shares: Floats) -> Self:
        """One mix throughout, proportional to ``shares``."""
        return cls(np.zeros(1), (shares / shares.sum())[None, :])

    @classmethod
    def uniform(cls, count: int) -> Self:
        """Each equally often."""
        return cls.given(np.ones(count))

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

    @classmethod
    def drifting(
        cls, rng: np.random.Generator, count: int, *, mean_dwell_seconds: float, duration: float, evenness: float = 2.0
    ) -> Self:
        """Shares that are drawn anew, all of them, after exponential times: what a balancer does when it is changed."""
        changes = rng.poisson(duration / mean_dwell_seconds)
        starts = np.concatenate(([0.0], np.sort(rng.random(changes)) * duration))
        return cls(starts, rng.dirichlet(np.full(count, evenness), changes + 1))

    @classmethod
    def with_own_bursts(cls, time: Floats, shares: Floats, owner: int, *, window_seconds: float) -> Self:
        """Shares under which one router's traffic bursts alone.

        The others receive what they would at the median rate; whatever exceeds it, window by window, is ``owner``'s.
        """
        usual = shares / shares.sum()
        last = time[-1] if len(time) else 0.0
        starts = np.arange(0.0, last + window_seconds, window_seconds)
        arrivals, _ = np.histogram(time, np.append(starts, starts[-1] + window_seconds))
        calm = np.median(arrivals) / np.maximum(arrivals, 1)
        weights = usual * np.minimum(1.0, calm)[:, None]
        weights[:, owner] += 1.0 - weights.sum(axis=1)
        return cls(starts, weights)

    def draw(self, rng: np.random.Generator, time: Floats) -> Ints:
        """Whose each arrival is. Nothing is drawn where there is no choice."""
        if self.weights.shape[1] == 1:
            return np.zeros(len(time), np.int64)
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


def spread(rng: np.random.Generator, workload: Workload, routers: Mix) -> Workload:
    """The same requests, arriving at other routers."""
    return replace(workload, router=routers.draw(rng, workload.time))


def assemble(
    rng: np.random.Generator,
    identity: str,
    time: Floats,
    duration: float,
    setting: Setting,
    mix: Mix,
    *,
    routers: Mix | None = None,
    length_cv: float = 0.0,
) -> Workload:
    """Requests at the instants ``time``. Lengths are the task's, spread log-normally where ``length_cv`` is above 0."""
    task = mix.draw(rng, time)
    prompt, output = setting.prompt_tokens[task], setting.output_tokens[task]
    if length_cv > 0:
        prompt, output = _spread(rng, prompt, length_cv), _spread(rng, output, length_cv)
    router = (routers or Mix.uniform(1)).draw(rng, time)
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
