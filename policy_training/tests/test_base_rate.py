"""The base rate against a queue whose answer is known, so that no simulator is needed here."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bes_api.scenario import Batching, LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_training.evaluation.base_rate import NoBaseRateError, largest_model, measure_base
from bes_training.workloads.workload import Setting, Workload

Array = np.ndarray[Any, Any]
PROFILE = LatencyProfile(
    prefill_base_ms=1, prefill_per_token_ms=0, decode_base_ms=1, decode_per_sequence_ms=0, decode_per_context_token_ms=0
)


def scenario_of(quality: dict[str, float]) -> Scenario:
    models = tuple(
        ScenarioModel(
            name=name,
            latency=PROFILE,
            batching=Batching.PREFILL_FIRST,
            prefill_token_budget=100,
            max_batch_size=1,
            kv_cache_tokens=1000,
            context_tokens=100,
            placement=(0,),
        )
        for name in ("small", "large")
    )
    task = ScenarioTask(
        name="t", full_until_seconds=0.5, zero_from_seconds=0.5, quality=quality, prompt_tokens=8, output_tokens=2
    )
    return Scenario(gpus=(ScenarioGPU(),), models=models, tasks=(task,), default_task="t")


SCENARIO = scenario_of({"small": 0.4, "large": 0.9})


@dataclass
class Waits:
    """One server with a fixed service time; in time = finished within half a second (Lindley's recursion)."""

    service_seconds: float
    calls: int = 0

    def __call__(self, workload: Workload) -> "Outcome":
        self.calls += 1
        finish = np.empty(len(workload))
        free = 0.0
        for index, arrival in enumerate(workload.time.tolist()):
            free = max(free, arrival) + self.service_seconds
            finish[index] = free
        late = finish - workload.time > 0.5
        return Outcome(workload, np.where(late, 0.0, 1.0))


class Outcome:
    def __init__(self, workload: Workload, reward: Array) -> None:
        self.time, self.task, self.reward = workload.time, workload.task, reward
        self.model = self.engine = workload.task
        self.peak = np.ones(len(reward))
        self.in_time = reward > 0


def test_the_largest_model_is_the_one_of_highest_quality() -> None:
    assert largest_model(SCENARIO) == "large"
    assert largest_model(scenario_of({"small": 0.4})) == "small"


def test_the_base_of_a_single_server_agrees_with_its_queue() -> None:
    """M/D/1 with service D = 0.1 s and deadline 5 D: 1 % wait longer than 4 D at 56.1 % utilisation.

    P(W > x) = C exp(-s x / D) with rho (e^s - 1) = s and C = (1 - rho) / (rho e^s - 1).
    """
    simulate = Waits(0.1)
    assert measure_base(SCENARIO, simulate, requests=8_000) == pytest.approx(5.61, rel=0.03)
    assert simulate.calls <= 60


def test_the_same_scenario_has_the_same_base() -> None:
    assert measure_base(SCENARIO, Waits(0.05), requests=500) == measure_base(SCENARIO, Waits(0.05), requests=500)


def test_a_model_that_is_always_late_gets_one_clear_error() -> None:
    with pytest.raises(NoBaseRateError, match="loosen the deadlines"):
        measure_base(SCENARIO, Waits(0.6), requests=100)


def test_a_slow_base_stretches_the_unit_of_time() -> None:
    assert Setting.of(SCENARIO, 62.0).unit_seconds == 1.0
    assert Setting.of(SCENARIO, 0.5).unit_seconds == pytest.approx(2000 / 30)
    assert Setting.of(SCENARIO, 62.0).prompt_tokens.tolist() == [8]
