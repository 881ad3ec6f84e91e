"""Drawn transitions: n-step returns checked by hand and against a plain list of episodes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bes_training.dqn import environment, replay

LENGTH, WIDTH, MODELS = 16, 2, 3


def empty(rows: int) -> environment.Memory:
    return environment.Memory(
        observation=np.zeros((rows, LENGTH, WIDTH), np.float32),
        allowed=np.zeros((rows, LENGTH, MODELS), np.int64),
        action=np.zeros((rows, LENGTH), np.int64),
        reward=np.zeros((rows, LENGTH), np.float32),
        slot=np.zeros((rows, LENGTH), np.int64),
        last=np.zeros((rows, LENGTH), np.int64),
        begun=np.zeros(rows, np.int64),
        made=np.zeros(rows, np.int64),
        settled=np.zeros(rows, np.int64),
    )


def transitions(count: int) -> replay.Transitions:
    return replay.Transitions(
        np.zeros((count, WIDTH), np.float32),
        np.zeros(count, np.int64),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.zeros((count, WIDTH), np.float32),
        np.zeros((count, MODELS), np.int64),
    )


def write(memory: environment.Memory, row: int, reward: float, last: bool = False) -> None:
    """One settled decision; its observation and action say its number."""
    number = int(memory.made[row])
    at = number % LENGTH
    memory.observation[row, at] = (row, number)
    memory.allowed[row, at] = (number % 2, 1, 1)
    memory.action[row, at] = number % MODELS
    memory.reward[row, at] = reward
    memory.last[row, at] = int(last)
    memory.made[row] += 1
    memory.settled[row] += 1


def everything(memory: environment.Memory, steps: int, gamma: float) -> replay.Transitions:
    """Every transition once, in order."""
    summed = np.zeros(len(memory.made) + 1, np.int64)
    total = replay.count_ready(memory, steps, summed)
    out = transitions(total)
    replay.draw(memory, summed, (np.arange(total) + 0.5) / max(total, 1), steps, gamma, out)
    return out


def test_returns_of_three_steps_by_hand() -> None:
    memory = empty(1)
    for reward in (1.0, 0.0, 0.5, 0.25, 1.0):
        write(memory, 0, reward)
    drawn = everything(memory, steps=3, gamma=0.5)
    np.testing.assert_allclose(drawn.returns, [1.0 + 0.0 + 0.125, 0.0 + 0.25 + 0.0625])
    np.testing.assert_allclose(drawn.discount, [0.125, 0.125])
    assert drawn.observation.tolist() == [[0, 0], [0, 1]]
    assert drawn.following.tolist() == [[0, 3], [0, 4]]
    assert drawn.action.tolist() == [0, 1]
    assert drawn.allowed.tolist() == [[1, 1, 1], [0, 1, 1]]


def test_a_return_ends_with_its_episode() -> None:
    memory = empty(1)
    for number, reward in enumerate((1.0, 1.0, 1.0, 1.0, 1.0, 1.0)):
        write(memory, 0, reward, last=number == 2)
    drawn = everything(memory, steps=3, gamma=0.5)
    np.testing.assert_allclose(drawn.returns, [1.75, 1.5, 1.0])
    np.testing.assert_allclose(drawn.discount, [0.0, 0.0, 0.0])


def test_nothing_is_drawn_before_its_outcomes_are_known() -> None:
    memory = empty(2)
    for _ in range(8):
        write(memory, 0, 1.0)
        write(memory, 1, 1.0)
    memory.settled[0] = 5  # an earlier request is still in flight
    drawn = everything(memory, steps=3, gamma=0.9)
    assert drawn.observation.tolist() == [[0, 0], [0, 1], *([1, number] for number in range(5))]


def test_what_lies_before_begun_is_forgotten() -> None:
    memory = empty(1)
    for _ in range(10):
        write(memory, 0, 1.0)
    memory.begun[0] = 4
    assert everything(memory, steps=3, gamma=0.9).observation[:, 1].tolist() == [4, 5, 6]
    memory.begun[0] = 10
    assert len(everything(memory, steps=3, gamma=0.9).action) == 0


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=40), min_size=1, max_size=3),
    steps=st.integers(1, 5),
    gamma=st.floats(0.0, 1.0),
)
def test_every_drawable_transition_is_that_of_a_plain_list(
    rows: list[list[tuple[float, bool]]], steps: int, gamma: float
) -> None:
    memory = empty(len(rows))
    expected = []
    for row, decisions in enumerate(rows):
        for reward, last in decisions:
            write(memory, row, reward, last)
        for number in range(max(0, len(decisions) - LENGTH), len(decisions) - steps):
            window = decisions[number : number + steps]
            ends = next((place for place, (_, last) in enumerate(window) if last), None)
            counted = window if ends is None else window[: ends + 1]
            value = sum(gamma**place * reward for place, (reward, _) in enumerate(counted))
            expected.append((row, number, value, gamma**steps if ends is None else 0.0))
    drawn = everything(memory, steps, gamma)
    assert drawn.observation.tolist() == [[row, number] for row, number, _, _ in expected]
    np.testing.assert_allclose(drawn.returns, [value for _, _, value, _ in expected], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn.discount, [each for _, _, _, each in expected], rtol=1e-5, atol=1e-6)
