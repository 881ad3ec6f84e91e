"""One slot, Poisson arrivals: the closed forms of queueing theory (Pollaczek and Khinchine) must come out."""

import numpy as np
import pytest
from sim_engines import one_gpu
from sim_runs import poisson

from bes_api.scenario import Batching, LatencyProfile, Scenario
from bes_router.policy import placement, rules
from bes_training.simulation.engines import FINISHED
from bes_training.simulation.simulate import compiled_catalogue, rule_brain, simulate
from bes_training.workloads.workload import Workload

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

SERVICE_SECONDS = 0.1
NEXT_TO_NOTHING = 1e-9
BY_STEPS = LatencyProfile(
    prefill_base_ms=NEXT_TO_NOTHING,
    prefill_per_token_ms=0.0,
    decode_base_ms=10.0,
    decode_per_sequence_ms=0.0,
    decode_per_context_token_ms=0.0,
)
BY_PROMPT = LatencyProfile(
    prefill_base_ms=NEXT_TO_NOTHING,
    prefill_per_token_ms=0.001,
    decode_base_ms=10.0,
    decode_per_sequence_ms=0.0,
    decode_per_context_token_ms=0.0,
)


def waiting_seconds(scenario: Scenario, workload: Workload, service: np.ndarray) -> np.ndarray:
    """Time from arrival to the start of service, checked request by request against Lindley's recursion."""
    catalogue = compiled_catalogue(scenario.model_dump_json())
    brain = rule_brain(catalogue, rules.STATIC, placement.LEAST_LOADED, np.array([0.0, 0.0]))
    outcomes = simulate(scenario, workload, brain)
    assert (outcomes.status == FINISHED).all()
    waiting = outcomes.latency - service
    assert np.abs(waiting - lindley(workload.time, service)).max() < 1e-6
    return waiting


def lindley(time: np.ndarray, service: np.ndarray) -> np.ndarray:
    """Waiting times of a single server: the walk of service less gap, above its running minimum."""
    walk = np.concatenate(([0.0], np.cumsum(service[:-1] - np.diff(time))))
    return np.asarray(walk - np.minimum.accumulate(walk))


def lengths(workload: Workload, prompt: np.ndarray, output: np.ndarray) -> Workload:
    return Workload(workload.id, workload.time, workload.task, prompt, output, workload.router, workload.duration)


@pytest.mark.parametrize("batching", list(Batching))
@pytest.mark.parametrize("use", [0.5, 0.8])
def test_equal_service_times_wait_as_in_m_d_1(batching: Batching, use: float) -> None:
    scenario = one_gpu(BY_STEPS, batch=1, batching=batching)
    count = 500_000
    workload = poisson(scenario, use / SERVICE_SECONDS, count, seed=1)
    steps = 10 if batching is Batching.CHUNKED_PREFILL else 11  # a chunked prefill takes as long as a decode step
    equal = lengths(workload, np.full(count, 10), np.full(count, steps))
    mean = waiting_seconds(scenario, equal, np.full(count, SERVICE_SECONDS)).mean()
    assert mean == pytest.approx(use * SERVICE_SECONDS / (2 * (1 - use)), rel=0.03)


@pytest.mark.parametrize("use", [0.5, 0.7])
def test_exponential_service_times_wait_as_in_m_m_1(use: float) -> None:
    """Prompts of exponential length, one output token: service is the prefill alone."""
    scenario = one_gpu(BY_PROMPT, batch=1, budget=10**9)
    count = 1_000_000
    workload = poisson(scenario, use / SERVICE_SECONDS, count, seed=2)
    tokens = np.ceil(np.random.default_rng(3).exponential(SERVICE_SECONDS / 1e-6, count)).astype(np.int64)
    exponential = lengths(workload, tokens, np.ones(count, dtype=np.int64))
    mean = waiting_seconds(scenario, exponential, tokens * 1e-6).mean()
    assert mean == pytest.approx(use * SERVICE_SECONDS / (1 - use), rel=0.03)


def test_geometric_numbers_of_decode_steps_wait_nearly_as_in_m_m_1() -> None:
    """The second moment of a geometric number of steps, in Pollaczek's and Khinchine's formula."""
    scenario = one_gpu(BY_STEPS, batch=1)
    use, count = 0.6, 500_000
    workload = poisson(scenario, use / SERVICE_SECONDS, count, seed=4)
    steps = np.random.default_rng(5).geometric(0.1, count)
    mean = waiting_seconds(scenario, lengths(workload, np.full(count, 10), steps + 1), steps * 0.01).mean()
    second_moment = (2 - 0.1) / 0.1**2 * 0.01**2
    assert mean == pytest.approx(use / SERVICE_SECONDS * second_moment / (2 * (1 - use)), rel=0.03)
