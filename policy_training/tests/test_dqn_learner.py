"""The learner: targets by hand, it learns, the same seed gives the same weights, interrupted or not."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policy_scenarios import opt_scenario
from sim_runs import poisson

torch = pytest.importorskip("torch", reason="torch is not installed: the learner needs the training environment")

from bes_api.errors import BestEffortError  # noqa: E402 - after the skip
from bes_router.policy import paper, placement, rules  # noqa: E402
from bes_router.policy.artifact import PAPER_TENSORS  # noqa: E402
from bes_router.policy.catalogue import catalogue_of  # noqa: E402
from bes_training.dqn.learner import (  # noqa: E402
    DQNResult,
    Progress,
    brain_of,
    feature_names,
    to_tensors,
    train_dqn,
)
from bes_training.dqn.network import (  # noqa: E402
    Learner,
    Transitions,
    double_targets,
    greedy,
    layers_of,
    network_of,
    new_layers,
)
from bes_training.dqn.settings import DQNSettings  # noqa: E402
from bes_training.dqn.validation import Validation, validation_workloads  # noqa: E402
from bes_training.simulation.brain import Brain  # noqa: E402
from bes_training.simulation.simulate import arrays_of, rule_brain, simulate  # noqa: E402

pytestmark = pytest.mark.torch

SCENARIO = opt_scenario()
ARRAYS = arrays_of(catalogue_of(SCENARIO))
BASE_RATE = 62.0
SHORT = DQNSettings(
    decisions=3_000,
    seed=5,
    hidden=16,
    environments=8,
    batch=64,
    episode_requests=300,
    memory=8 * 400,
    validations=3,
    validation_requests=30,
    warmup=300,
    checkpoint_decisions=700,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Interrupter:
    """Presses Ctrl-C once so many decisions were made."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, progress: Progress) -> None:
        if progress.decisions >= self.after:
            self.after = 10**9
            os.kill(os.getpid(), signal.SIGINT)


def ignore(_progress: Progress) -> None:
    """No progress is shown."""


def same(one: DQNResult, other: DQNResult) -> bool:
    return one.curve == other.curve and all(
        np.array_equal(mine, theirs) for mine, theirs in zip(one.layers, other.layers, strict=True)
    )


def test_the_target_takes_the_model_from_one_network_and_its_value_from_the_other() -> None:
    targets = double_targets(
        returns=torch.tensor([1.0, 0.5, 2.0]),
        discount=torch.tensor([0.9, 0.9, 0.0]),
        online=torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [9.0, 9.0, 9.0]]),
        target=torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 30.0], [50.0, 50.0, 50.0]]),
        allowed=torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]]),
    )
    # 1 + .9 * 20: the online network prefers model 1; it is not allowed in row 2, so model 2; row 3 ends.
    np.testing.assert_allclose(targets.numpy(), [19.0, 27.5, 2.0])


def test_an_update_moves_the_value_of_the_chosen_model_towards_its_target() -> None:
    rng = np.random.default_rng(0)
    learner = Learner(new_layers(4, 8, 3, rng), learning_rate=1e-2, target_rate=0.1)
    observation = rng.normal(size=(32, 4)).astype(np.float32)
    drawn = Transitions(
        observation,
        np.full(32, 1),
        np.full(32, 5.0, np.float32),
        np.zeros(32, np.float32),
        observation,
        np.ones((32, 3), np.int64),
    )
    for _ in range(300):
        learner.update(drawn)
    with torch.no_grad():
        values = learner.online(torch.from_numpy(observation)).numpy()
        slow = learner.target(torch.from_numpy(observation)).numpy()
    np.testing.assert_allclose(values[:, 1], 5.0, atol=0.3)
    np.testing.assert_allclose(slow[:, 1], 5.0, atol=0.6)


def test_greedy_never_takes_a_model_that_is_not_allowed() -> None:
    rng = np.random.default_rng(1)
    network = network_of(new_layers(5, 8, 3, rng))
    observation = rng.normal(size=(200, 5)).astype(np.float32)
    allowed = rng.integers(0, 2, (200, 3))
    allowed[np.arange(200), rng.integers(0, 3, 200)] = 1
    assert (allowed[np.arange(200), greedy(network, observation, allowed)] == 1).all()


def test_weights_survive_the_way_into_torch_and_back() -> None:
    layers = new_layers(6, 8, 3, np.random.default_rng(2))
    back = layers_of(network_of(layers))
    for mine, theirs in zip(layers, back, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-7)


def test_validation_plays_what_the_simulator_plays_with_the_network_as_its_brain() -> None:
    layers = new_layers(paper.width_of(ARRAYS), 32, 3, np.random.default_rng(7))
    workloads = [poisson(SCENARIO, rate, 600, seed) for seed, rate in enumerate((60.0, 300.0, 900.0))]
    brain = brain_of(ARRAYS, layers)
    runs = [simulate(SCENARIO, workload, brain) for workload in workloads]
    expected = np.mean([run.reward.sum() / run.peak.sum() for run in runs])
    assert len({model for run in runs for model in run.model.tolist()}) > 1, "the network must not be a constant"
    validation = Validation(ARRAYS, SCENARIO.max_in_flight, workloads)
    assert validation.performance(network_of(layers)) == pytest.approx(expected, abs=2e-3)  # single precision
    assert validation.performance(network_of(layers)) == validation.performance(network_of(layers))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first = train_dqn(SCENARIO, SHORT, BASE_RATE, ignore)
    assert same(first, train_dqn(SCENARIO, SHORT, BASE_RATE, ignore))
    assert not same(first, train_dqn(SCENARIO, replace(SHORT, seed=6), BASE_RATE, ignore))
    assert first.decisions >= SHORT.decisions
    assert len(first.curve) == SHORT.validations


@pytest.mark.parametrize("after", [500, 2_300])
def test_a_training_interrupted_and_resumed_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, after: int
) -> None:
    path = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        train_dqn(SCENARIO, SHORT, BASE_RATE, Interrupter(after), path)
    assert path.exists()
    resumed = train_dqn(SCENARIO, SHORT, BASE_RATE, ignore, path)
    assert same(resumed, train_dqn(SCENARIO, SHORT, BASE_RATE, ignore))
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "nothing half written stays behind"


def test_ctrl_c_is_python_s_own_again_after_a_training() -> None:
    before = signal.getsignal(signal.SIGINT)
    train_dqn(SCENARIO, replace(SHORT, decisions=500), BASE_RATE, ignore)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_outside_the_main_thread_needs_no_signals() -> None:
    results: list[DQNResult] = []
    thread = threading.Thread(
        target=lambda: results.append(train_dqn(SCENARIO, replace(SHORT, decisions=500), BASE_RATE, ignore))
    )
    thread.start()
    thread.join(60)
    assert len(results) == 1


def test_a_checkpoint_of_another_training_or_a_broken_one_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        train_dqn(SCENARIO, SHORT, BASE_RATE, Interrupter(300), path)
    with pytest.raises(BestEffortError, match=r"another training.*remove it"):
        train_dqn(SCENARIO, replace(SHORT, seed=9), BASE_RATE, ignore, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BestEffortError, match=r"no readable checkpoint.*remove it"):
        train_dqn(SCENARIO, SHORT, BASE_RATE, ignore, path)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch is 0; give at least 1"):
        DQNSettings(batch=0)
    with pytest.raises(ValueError, match=r"epsilon is 2.0; give a number from 0 to 1"):
        DQNSettings(epsilon=2.0)


def test_tensors_and_feature_names_are_those_of_the_artifact() -> None:
    layers = new_layers(paper.width_of(ARRAYS), 8, 3, np.random.default_rng(0))
    tensors = to_tensors(DQNResult(layers, ((1, 0.5),), 1, 1.0))
    assert tuple(tensors) == PAPER_TENSORS
    assert [tensor.shape for tensor in tensors.values()] == [(8, 6), (8,), (8, 8), (8,), (3, 8), (3,)]
    names = feature_names(SCENARIO)
    assert len(names) == paper.width_of(ARRAYS) == len(set(names))


def mean_performance(brain: Brain) -> float:
    shares = []
    for workload in validation_workloads(SCENARIO, BASE_RATE, 1_500):
        run = simulate(SCENARIO, workload, brain)
        shares.append(run.reward.sum() / run.peak.sum())
    return float(np.mean(shares))


@pytest.mark.slow
def test_it_learns_in_seconds_what_beats_chance_and_every_static_model_and_comes_near_deadline_aware() -> None:
    settings = DQNSettings(
        decisions=120_000, seed=1, hidden=64, memory=300_000, warmup=5_000, validation_requests=1_500
    )
    result = train_dqn(SCENARIO, settings, BASE_RATE, ignore)
    width = paper.width_of(ARRAYS)
    untrained = [
        mean_performance(brain_of(ARRAYS, new_layers(width, 64, 3, np.random.default_rng(seed)))) for seed in range(3)
    ]

    def rule(kind: int, *parameters: float) -> float:
        return mean_performance(
            rule_brain(ARRAYS, kind, placement.LEAST_LOADED, np.array([rules.NO_GATE, *parameters]))
        )

    statics = [rule(rules.STATIC, float(model)) for model in range(3)]
    aware = rule(rules.DEADLINE_AWARE, 0.2)
    learned = mean_performance(brain_of(ARRAYS, result.layers))
    assert learned > max(untrained) + 0.05
    assert learned > max(statics) + 0.02
    assert learned > aware - 0.05
