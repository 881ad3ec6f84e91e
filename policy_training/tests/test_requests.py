import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_training.workloads.requests import TaskMix, assemble, assign_routers
from bes_training.workloads.workload import Setting, Workload

SETTING = Setting(60.0, np.array([100, 200, 300]), np.array([10, 20, 30]))


def test_given_shares_are_drawn() -> None:
    task = TaskMix.given(np.array([1.0, 2.0, 7.0])).draw(np.random.default_rng(1), np.linspace(0, 1, 50_000))
    assert np.bincount(task) / 50_000 == pytest.approx([0.1, 0.2, 0.7], abs=0.01)


def test_a_shift_makes_another_task_dominate_at_once() -> None:
    mix = TaskMix.shifting(np.random.default_rng(4), 4, dominant=0.95, mean_dwell_seconds=5, duration=100)
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
    mix = TaskMix.shifting(rng, tasks, dominant=dominant, mean_dwell_seconds=1, duration=10)
    assert mix.weights.sum(axis=1) == pytest.approx(np.ones(len(mix.starts)))
    task = mix.draw(rng, np.linspace(0, 10, 200))
    assert 0 <= task.min() <= task.max() < tasks


def test_routers_get_their_shares() -> None:
    router = assign_routers(np.random.default_rng(1), 40_000, np.array([7.0, 1.0, 1.0, 1.0]))
    assert np.bincount(router) / 40_000 == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.01)


def test_lengths_are_the_tasks_own() -> None:
    time = np.linspace(0, 1, 100)
    made = assemble(np.random.default_rng(1), "w/1", time, 1.0, SETTING, TaskMix.uniform(3))
    assert (made.prompt_tokens == (made.task + 1) * 100).all()
    assert (made.output_tokens == (made.task + 1) * 10).all()
    assert (made.router == 0).all()
    assert {array.dtype.name for array in (made.task, made.prompt_tokens, made.output_tokens, made.router)} == {"int64"}


def test_spread_lengths_keep_their_mean() -> None:
    time = np.linspace(0, 1, 50_000)
    mix = TaskMix.given(np.array([1.0, 0.0, 0.0]))
    made = assemble(np.random.default_rng(1), "w/1", time, 1.0, SETTING, mix, length_cv=0.4)
    assert made.prompt_tokens.mean() == pytest.approx(100, rel=0.02)
    assert made.prompt_tokens.std() == pytest.approx(40, rel=0.05)
    assert made.output_tokens.min() >= 1


def test_head_ends_with_its_last_request() -> None:
    whole = assemble(np.random.default_rng(1), "w/1", np.arange(10.0), 10.0, SETTING, TaskMix.uniform(3))
    first = whole.head(4)
    assert (len(first), first.duration, first.name) == (4, 3.0, "w")
    assert whole.head(10) is whole


def test_unsorted_times_are_refused() -> None:
    zeros = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="sorted"):
        Workload("w", np.array([1.0, 0.5]), zeros, zeros, zeros, zeros, 2.0)
    with pytest.raises(ValueError, match="differ in length"):
        Workload("w", np.array([1.0]), zeros, zeros, zeros, zeros, 2.0)
