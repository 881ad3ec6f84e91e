"""A workload: requests with their arrival instants, tasks, lengths and routers, and the setting it is scaled to."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """N requests, sorted by arrival; ``duration`` (seconds) is the observed span and at least the last arrival.

    ``id`` is ``<workload>/<realisation>``: realisations of one workload share what stands before the slash.
    """

    id: str
    time: Floats
    task: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    router: Ints
    duration: float

    def __post_init__(self) -> None:
        count = len(self.time)
        if any(len(array) != count for array in (self.task, self.prompt_tokens, self.output_tokens, self.router)):
            raise ValueError(f"workload {self.id!r}: arrays differ in length; give one entry per request in each")
        if count and (self.time[0] < 0 or self.time[-1] > self.duration or (np.diff(self.time) < 0).any()):
            raise ValueError(f"workload {self.id!r}: times must be sorted and lie in 0..duration; sort the requests")

    def __len__(self) -> int:
        return len(self.time)

    @property
    def name(self) -> str:
        """What the realisations of one workload have in common."""
        return self.id.rpartition("/")[0] or self.id

    @property
    def seed(self) -> int:
        """The realisation's seed; 0 where the id names none."""
        seed = self.id.rpartition("/")[2]
        return int(seed) if seed.isdecimal() else 0

    @property
    def mean_rate(self) -> float:
        """Requests per second."""
        return len(self.time) / self.duration

    def router_shares(self) -> list[float]:
        """Each router's part of the requests; the last router is the last that received one."""
        counts = np.bincount(self.router, minlength=1)
        return [float(count) / max(1, len(self)) for count in counts]

    def head(self, requests: int) -> Self:
        """The first ``requests`` requests; the workload then ends with the last of them."""
        if len(self.time) <= requests:
            return self
        return replace(
            self,
            time=self.time[:requests],
            task=self.task[:requests],
            prompt_tokens=self.prompt_tokens[:requests],
            output_tokens=self.output_tokens[:requests],
            router=self.router[:requests],
            duration=float(self.time[requests - 1]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a law is scaled to: the base rate (requests/s), the tasks' typical lengths and the unit of time.

    Laws are written in multiples of ``base_rate`` and in units of ``unit_seconds``. The unit is one second unless the
    base is so slow that 60 units would hold fewer than 2,000 requests (a service of large models with long deadlines);
    there it is longer, so that figures stay as tight and bursts as long against a request's life.
    """

    base_rate: float
    prompt_tokens: Ints
    output_tokens: Ints
    unit_seconds: float = 1.0

    @classmethod
    def of(cls, scenario: Scenario, base_rate: float) -> Self:
        """The setting of a scenario whose measured base is ``base_rate`` requests/s."""
        return cls(
            base_rate=base_rate,
            prompt_tokens=np.array([task.prompt_tokens for task in scenario.tasks], np.int64),
            output_tokens=np.array([task.output_tokens for task in scenario.tasks], np.int64),
            unit_seconds=max(1.0, 2000 / (60 * base_rate)),
        )

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.prompt_tokens)
