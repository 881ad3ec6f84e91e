"""Drawing n-step transitions from the rings of `environment.Memory`. A plain module, compiled.

A transition enters when the outcomes of all its n requests are known: decisions are drawn from the part of each ring
where that holds, so nothing is copied at entry and n-step returns are summed when drawn.
"""

from typing import Any, NamedTuple

from bes_training.dqn.environment import Memory

Array = Any  # numpy arrays; numba types them


class Transitions(NamedTuple):
    """K transitions: from ``observation`` over n decisions to ``following``."""

    observation: Array  # [K, W]
    action: Array  # [K]
    returns: Array  # [K] discounted rewards of the n decisions, fewer where the episode ended
    discount: Array  # [K] of the value of ``following``; 0 where the episode ended
    following: Array  # [K, W]
    allowed: Array  # [K, M] models eligible in ``following``


def first_of(memory: Memory, index: int) -> int:
    """The oldest decision of a simulation that may be drawn."""
    kept: int = memory.made[index] - memory.action.shape[1]
    begun: int = memory.begun[index]
    return max(kept, begun)


def count_ready(memory: Memory, steps: int, summed: Array) -> int:
    """How many decisions may be drawn; ``summed`` [B + 1] receives the running sums over simulations."""
    total = 0
    summed[0] = 0
    for index in range(len(memory.made)):
        total += max(0, memory.settled[index] - steps - first_of(memory, index))
        summed[index + 1] = total
    return total


def locate(summed: Array, draw: int) -> int:
    """The simulation that holds the decision ``draw`` of all."""
    low = 0
    high = len(summed) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if summed[middle] <= draw:
            low = middle
        else:
            high = middle
    return low


def draw(memory: Memory, summed: Array, uniform: Array, steps: int, gamma: float, out: Transitions) -> None:
    """Fill ``out`` with transitions at the places ``uniform`` [K] (0 <= u < 1) of everything that may be drawn."""
    total = summed[len(summed) - 1]
    length = memory.action.shape[1]
    for row in range(len(uniform)):
        number = min(total - 1, int(uniform[row] * total))
        index = locate(summed, number)
        decision = first_of(memory, index) + number - summed[index]
        out.action[row] = memory.action[index, decision % length]
        returns = 0.0
        factor = 1.0
        ended = False
        for step in range(steps):
            if not ended:
                at = (decision + step) % length
                returns += factor * memory.reward[index, at]
                factor *= gamma
                ended = memory.last[index, at] == 1
        out.returns[row] = returns
        out.discount[row] = 0.0 if ended else factor
        for feature in range(memory.observation.shape[2]):
            out.observation[row, feature] = memory.observation[index, decision % length, feature]
            out.following[row, feature] = memory.observation[index, (decision + steps) % length, feature]
        for model in range(memory.allowed.shape[2]):
            out.allowed[row, model] = memory.allowed[index, (decision + steps) % length, model]
