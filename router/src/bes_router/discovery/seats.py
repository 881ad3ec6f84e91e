"""Which replica of its model each pod is, so that pods on one node share a GPU of the scenario. Pure.

A scenario numbers replicas and says on which GPU each sits; a cluster has pods on nodes. A pod keeps its replica while
it lives. Where engines share GPUs, a node stands for one GPU of their group. Nodes that hold more than that of a group
do not tell its GPUs apart: then pods take the free replicas in order, so that the group as a whole is as the scenario
says, and who neighbours whom in it is a guess.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bes_api.scenario import Scenario
from bes_router.discovery.slices import Pod

Seats = Mapping[tuple[str, str], int]
"""Replica by model and pod's key."""


@dataclass(frozen=True)
class Seating:
    """``seats`` of those who take part; ``waiting``: pods without one; ``guessed``: groups, see the module."""

    seats: Seats
    waiting: int
    guessed: tuple[str, ...]


def seated(scenario: Scenario, pods: Mapping[str, Sequence[Pod]], before: Seats) -> Seating:
    """Give ``pods`` (by model) their replicas; ``before`` is what was given last.

    With more pods than replicas those that are ready come first, then those that have a replica.
    """
    table = _Table(scenario, pods, before)
    for group, node in table.newcomers():
        table.meet(group, node)
    for model, pod in list(table.standing()):
        table.seat(model, pod)
    waiting = sum(map(len, pods.values())) - len(table.seats)
    return Seating(table.seats, waiting, table.guessed())


class _Table:
    """The work of `seated`: who has a seat, who stands, and which node is which GPU."""

    def __init__(self, scenario: Scenario, pods: Mapping[str, Sequence[Pod]], before: Seats) -> None:
        self._placement = {model.name: model.placement for model in scenario.models}
        self._group = [gpu.group for gpu in scenario.gpus]
        self._part: dict[str, list[Pod]] = {}
        self.seats: dict[tuple[str, str], int] = {}
        self._free: dict[str, list[int]] = {}
        for model, placement in self._placement.items():
            order = sorted(
                pods.get(model, ()), key=lambda pod: (not pod.ready, (model, pod.key) not in before, pod.name)
            )
            self._part[model] = order[: len(placement)]
            kept = {(model, pod.key): before[model, pod.key] for pod in self._part[model] if (model, pod.key) in before}
            self.seats |= {key: replica for key, replica in kept.items() if replica < len(placement)}
            taken = {self.seats[key] for key in kept if key in self.seats}
            self._free[model] = [replica for replica in range(len(placement)) if replica not in taken]
        self._bound: dict[tuple[str, str], Counter[int]] = {}
        for model, pod in self._of_groups():
            if (model, pod.key) in self.seats:
                self._bind(model, pod)

    def standing(self) -> Iterator[tuple[str, Pod]]:
        """Who takes part and has no seat yet."""
        for model, pods in self._part.items():
            yield from ((model, pod) for pod in pods if (model, pod.key) not in self.seats)

    def newcomers(self) -> list[tuple[str, str]]:
        """Groups and their nodes that stand for no GPU yet, those with most pods first."""
        count = Counter((self._group_of(model), pod.node) for model, pod in self._of_groups())
        new = [(group, node) for group, node in count if group and node and (group, node) not in self._bound]
        return sorted(new, key=lambda each: (-count[each], each))

    def meet(self, group: str, node: str) -> None:
        """Let a node be the GPU, no other node's yet, that has room for most of its pods and little beyond."""
        here = [(model, pod) for model, pod in self.standing() if (self._group_of(model), pod.node) == (group, node)]
        used = {gpu for (other, _), gpus in self._bound.items() if other == group for gpu in gpus}
        wanted = Counter(model for model, _ in here)

        def fit(gpu: int) -> tuple[int, int, int]:
            room = Counter(
                {model: sum(self._placement[model][i] == gpu for i in free) for model, free in self._free.items()}
            )
            return (wanted & room).total(), -room.total(), -gpu

        unused = [gpu for gpu, of in enumerate(self._group) if of == group and gpu not in used]
        best = max(unused, key=fit, default=None)
        if best is None or not fit(best)[0]:
            return
        for model, pod in here:
            replica = next((i for i in self._free[model] if self._placement[model][i] == best), None)
            if replica is not None:
                self._take(model, pod, replica)

    def seat(self, model: str, pod: Pod) -> None:
        """Give a free replica on the node's GPU, else on one that is no node's yet, else any."""
        group = self._group_of(model)
        mine = self._bound.get((group or "", pod.node or ""), Counter[int]())
        used = {gpu for (other, _), gpus in self._bound.items() if other == group for gpu in gpus}

        def rank(replica: int) -> tuple[bool, bool, int]:
            gpu = self._placement[model][replica]
            return gpu not in mine, gpu in used, replica

        self._take(model, pod, min(self._free[model], key=rank))

    def guessed(self) -> tuple[str, ...]:
        """Groups in which a node has pods on several GPUs, a GPU pods of several nodes, or a pod no node."""
        found = set()
        nodes: dict[int, set[str]] = {}
        for (group, node), gpus in self._bound.items():
            if len(gpus) > 1 or not node:
                found.add(group)
            for gpu in gpus:
                nodes.setdefault(gpu, set()).add(node)
        found |= {self._group[gpu] or "" for gpu, here in nodes.items() if len(here) > 1}
        return tuple(sorted(found))

    def _of_groups(self) -> Iterator[tuple[str, Pod]]:
        for model, pods in self._part.items():
            if self._group_of(model) is not None:
                yield from ((model, pod) for pod in pods)

    def _group_of(self, model: str) -> str | None:
        return self._group[self._placement[model][0]]

    def _take(self, model: str, pod: Pod, replica: int) -> None:
        self.seats[model, pod.key] = replica
        self._free[model].remove(replica)
        if self._group_of(model) is not None:
            self._bind(model, pod)

    def _bind(self, model: str, pod: Pod) -> None:
        gpu = self._placement[model][self.seats[model, pod.key]]
        self._bound.setdefault((self._group_of(model) or "", pod.node or ""), Counter())[gpu] += 1
