import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_training.workloads.requests import Mix, assemble, spread
from bes_training.workloads.workload import Setting, Workload

SETTING = Setting(60.0, np.array([100, 200, 300]), np.array([10, 20, 30]))


def test_given_shares_are_drawn() -> None:
    task = Mix.given(np.array([1.0, 2.0, 7.0])).draw(np.random.default_rng(1), np.linspace(0, 1, 50_000))
    assert np.bincount(task) / 50_000 == pytest.approx([0.1, 0.2, 0.7], abs=0.01)


def test_a_shift_makes_another_task_dominate_at_once() -> None:
    mix = Mix.shifting(np.random.default_rng(4), 4, dominant=0.95, mean_dwell_seconds=5, duration=100)
    assert len(mix.starts) > 5
    leaders = mix.weights.argmax(axis=1)
    assert (np.diff(leaders) != 0).all()
    assert mix.weights.max(axis=1) == pytest.approx([0.95] * len(leaders))
    time = np.linspace(0, 100, 200_000, endpoint=False)
    task = mix.draw(np.random.default_rng(5), time)
    for start, end, leader in zip(mix.starts, [*mix.starts[1:], 100.0], leaders, strict=True):
        inside = task[(time >= start) & (time < end)]
        if len(inside) > 2_000:
            assert (inside == leader).mean() == pytest.approx(0.95, abs=0.03)


@given(seed=st.integers(0, 2**32), tasks=st.integers(1, 9), dominant=st.sampled_from([0.5, 0.9, 0.95]))
def test_every_drawn_task_exists(seed: int, tasks: int, dominant: float) -> None:
    rng = np.random.default_rng(seed)
    mix = Mix.shifting(rng, tasks, dominant=dominant, mean_dwell_seconds=1, duration=10)
    assert mix.weights.sum(axis=1) == pytest.approx(np.ones(len(mix.starts)))
    task = mix.draw(rng, np.linspace(0, 10, 200))
    assert 0 <= task.min() <= task.max() < tasks


def test_routers_get_their_shares() -> None:
    router = Mix.given(np.array([7.0, 1.0, 1.0, 1.0])).draw(np.random.default_rng(1), np.zeros(40_000))
    assert np.bincount(router) / 40_000 == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.01)


def test_lengths_are_the_tasks_own() -> None:
    time = np.linspace(0, 1, 100)
    made = assemble(np.random.default_rng(1), "w/1", time, 1.0, SETTING, Mix.uniform(3))
    assert (made.prompt_tokens == (made.task + 1) * 100).all()
    assert (made.output_tokens == (made.task + 1) * 10).all()
    assert (made.router == 0).all()
    assert {array.dtype.name for array in (made.task, made.prompt_tokens, made.output_tokens, made.router)} == {"int64"}


def test_spread_lengths_keep_their_mean() -> None:
    time = np.linspace(0, 1, 50_000)
    mix = Mix.given(np.array([1.0, 0.0, 0.0]))
    made = assemble(np.random.default_rng(1), "w/1", time, 1.0, SETTING, mix, length_cv=0.4)
    assert made.prompt_tokens.mean() == pytest.approx(100, rel=0.02)
    assert made.prompt_tokens.std() == pytest.approx(40, rel=0.05)
    assert made.output_tokens.min() >= 1


def test_head_ends_with_its_last_request() -> None:
    whole = assemble(np.random.default_rng(1), "w/1", np.arange(10.0), 10.0, SETTING, Mix.uniform(3))
    first = whole.head(4)
    assert (len(first), first.duration, first.name) == (4, 3.0, "w")
    assert whole.head(10) is whole


def test_unsorted_times_are_refused() -> None:
    zeros = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="sorted"):
        Workload("w", np.array([1.0, 0.5]), zeros, zeros, zeros, zeros, 2.0)
    with pytest.raises(ValueError, match="differ in length"):
        Workload("w", np.array([1.0]), zeros, zeros, zeros, zeros, 2.0)


def test_drifting_shares_change_all_at_once_and_add_up() -> None:
    mix = Mix.drifting(np.random.default_rng(2), 4, mean_dwell_seconds=5, duration=200)
    assert 20 < len(mix.starts) < 70
    assert mix.weights.sum(axis=1) == pytest.approx(1.0)
    assert np.abs(np.diff(mix.weights, axis=0)).max(axis=1).min() > 0.0


def test_own_bursts_are_one_routers_alone_and_the_others_never_exceed_the_usual_rate() -> None:
    random = np.random.default_rng(3)
    time = np.sort(np.concatenate((random.uniform(0, 60, 6_000), random.uniform(20, 25, 5_000))))
    router = Mix.with_own_bursts(time, np.array([1.0, 1.0, 2.0]), 1, window_seconds=0.5).draw(random, time)
    burst = (time > 20) & (time < 25)
    calm = [(router[~burst] == each).mean() for each in range(3)]
    assert calm == pytest.approx([0.25, 0.25, 0.5], abs=0.08)
    rates = [((router == each) & burst).sum() / 5 for each in range(3)]
    assert rates[0] == pytest.approx(25, rel=0.3)
    assert rates[2] == pytest.approx(50, rel=0.3)
    assert rates[1] > 900


def test_spreading_moves_requests_to_other_routers_and_nothing_else() -> None:
    time = np.sort(np.random.default_rng(1).uniform(0, 10, 500))
    made = assemble(np.random.default_rng(1), "w/1", time, 10.0, SETTING, Mix.uniform(3))
    moved = spread(np.random.default_rng(5), made, Mix.given(np.array([0.7, 0.3])))
    assert moved.router_shares() == pytest.approx([0.7, 0.3], abs=0.06)
    assert made.router_shares() == [1.0]
    assert (moved.time is made.time, moved.task is made.task, moved.id) == (True, True, made.id)
