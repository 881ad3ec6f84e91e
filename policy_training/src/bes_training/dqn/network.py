"""The paper's network in torch, and the update of double DQN: everything of it that is arithmetic on tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bes_training.dqn.replay import Transitions

Float = NDArray[np.float64]
Layers = tuple[Float, Float, Float, Float, Float, Float]
"""weight1 [H, inputs], bias1 [H], weight2 [H, H], bias2 [H], weight3 [models, H], bias3 [models]."""
Tensor = Any  # torch is not typed where lint runs

REFUSED = -1e9


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch computes with ``count`` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def new_layers(inputs: int, hidden: int, outputs: int, rng: np.random.Generator) -> Layers:
    """Weights and biases uniform within 1 / sqrt(fan in), as torch begins a linear layer."""

    def layer(rows: int, columns: int) -> tuple[Float, Float]:
        bound = columns**-0.5
        return rng.uniform(-bound, bound, (rows, columns)), rng.uniform(-bound, bound, rows)

    return (*layer(hidden, inputs), *layer(hidden, hidden), *layer(outputs, hidden))


def network_of(layers: Layers) -> Any:
    """A torch network with these weights, in single precision."""
    linears = [torch.nn.Linear(weight.shape[1], weight.shape[0]) for weight in layers[::2]]
    network = torch.nn.Sequential(linears[0], torch.nn.ReLU(), linears[1], torch.nn.ReLU(), linears[2])
    load(network, layers)
    return network


def load(network: Any, layers: Layers) -> None:
    """Set a network's weights."""
    with torch.no_grad():
        for parameter, values in zip(network.parameters(), layers, strict=True):
            parameter.copy_(torch.from_numpy(np.asarray(values, np.float32)))


def layers_of(network: Any) -> Layers:
    """A copy of a network's weights."""
    one, two, three, four, five, six = (each.detach().numpy().astype(np.float64) for each in network.parameters())
    return one, two, three, four, five, six


def greedy(network: Any, observation: NDArray[np.float32], allowed: NDArray[np.int64]) -> NDArray[np.int64]:
    """The allowed model of the highest value in each row; rows without an allowed model give 0."""
    with torch.no_grad():
        values = network(torch.from_numpy(observation)).numpy()
    values[allowed == 0] = REFUSED
    best: NDArray[np.int64] = values.argmax(axis=1)
    return best


def double_targets(returns: Tensor, discount: Tensor, online: Tensor, target: Tensor, allowed: Tensor) -> Tensor:
    """Double DQN: the online network picks the allowed model, the target network says what it is worth.

    ``returns`` and ``discount`` [K]; values of the following state ``online``, ``target`` [K, M]; ``allowed`` [K, M].
    """
    chosen = online.masked_fill(allowed == 0, REFUSED).argmax(dim=1, keepdim=True)
    return returns + discount * target.gather(1, chosen).squeeze(1)


class Learner:
    """Online and target network with their optimiser."""

    def __init__(self, layers: Layers, learning_rate: float, target_rate: float) -> None:
        self.online = network_of(layers)
        self.target = network_of(layers)
        self._optimiser = torch.optim.Adam(self.online.parameters(), lr=learning_rate)
        self._target_rate = target_rate

    def set_learning_rate(self, rate: float) -> None:
        """From the next update on."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate

    def synchronise(self) -> None:
        """Make the target network equal to the online one."""
        load(self.target, layers_of(self.online))

    def update(self, transitions: Transitions) -> None:
        """One step of Adam on the mean squared error (not Huber: outcomes are bimodal, their mean is wanted)."""
        following = torch.from_numpy(transitions.following)
        with torch.no_grad():
            wanted = double_targets(
                torch.from_numpy(transitions.returns),
                torch.from_numpy(transitions.discount),
                self.online(following),
                self.target(following),
                torch.from_numpy(transitions.allowed),
            )
        values = self.online(torch.from_numpy(transitions.observation))
        chosen = values.gather(1, torch.from_numpy(transitions.action).unsqueeze(1)).squeeze(1)
        loss = torch.nn.functional.mse_loss(chosen, wanted)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        with torch.no_grad():
            for slow, quick in zip(self.target.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(quick, self._target_rate)

    def arrays(self) -> list[NDArray[Any]]:
        """Everything a checkpoint must hold, in a fixed order: both networks, then Adam's state per parameter."""
        held = [*self.online.parameters(), *self.target.parameters()]
        arrays: list[NDArray[Any]] = [each.detach().numpy().copy() for each in held]
        for parameter in self.online.parameters():
            state = self._optimiser.state.get(parameter)
            if state:
                arrays += [np.array(float(state["step"])), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()]
            else:
                arrays += [np.array(0.0), np.zeros(parameter.shape, np.float32), np.zeros(parameter.shape, np.float32)]
        return arrays

    def restore(self, arrays: list[NDArray[Any]]) -> None:
        """Take the state that `arrays` gave."""
        held = [*self.online.parameters(), *self.target.parameters()]
        with torch.no_grad():
            for parameter, values in zip(held, arrays, strict=False):
                parameter.copy_(torch.from_numpy(values))
        moments = arrays[len(held) :]
        state = {
            index: {
                "step": torch.tensor(float(moments[3 * index])),
                "exp_avg": torch.from_numpy(moments[3 * index + 1].copy()),
                "exp_avg_sq": torch.from_numpy(moments[3 * index + 2].copy()),
            }
            for index in range(len(held) // 2)
        }
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
