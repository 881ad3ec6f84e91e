"""What a network is worth on the committed validation workloads, all of them side by side.

Plays what `simulate` would play with the network in place of a brain (a test holds them equal), some fifteen times as
quickly, because the network decides for all workloads in one product of matrices.
"""

from typing import Any

from bes_api.scenario import Scenario
from bes_router.policy.layout import Catalogue
from bes_training.dqn.network import greedy
from bes_training.dqn.vector import Simulations, new_memory
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.workloads.suite import load_suite, realise
from bes_training.workloads.traces import Part
from bes_training.workloads.workload import Setting, Workload


def validation_workloads(scenario: Scenario, base_rate: float, requests: int) -> list[Workload]:
    """Each workload of the validation suite once, with its first seed and at most ``requests`` requests."""
    suite = load_suite(Part.VALIDATION)
    setting = Setting.of(scenario, base_rate)
    return [
        realise(definition, Part.VALIDATION, suite.seeds[0], setting, max_requests=requests)
        for definition in suite.workloads
    ]


class Validation:
    """Plays fixed workloads under live figures, with the service's own deadlines."""

    def __init__(self, catalogue: Catalogue, max_in_flight: int, workloads: list[Workload]) -> None:
        self._workloads = workloads
        self._routers = [int(item.router.max()) + 1 if len(item) else 1 for item in workloads]
        self._simulations = Simulations(
            catalogue,
            max_in_flight,
            rows=len(workloads),
            requests=max(len(item) for item in workloads),
            routers=max(self._routers),
        )
        self._memory = new_memory(self._simulations, max(len(item) for item in workloads))

    def performance(self, network: Any) -> float:
        """Mean over the workloads of reward as a share of peak."""
        simulations = self._simulations
        for row, (workload, routers) in enumerate(zip(self._workloads, self._routers, strict=True)):
            simulations.put(row, workload, Circumstances(LoadFigures.live(routers)))
            simulations.begin(row)
        awaiting = simulations.rows
        while awaiting:
            batch = simulations.batch
            awaiting = simulations.decide(self._memory, greedy(network, batch.observation, batch.allowed))
        sums = [simulations.reward(row) for row in range(simulations.rows)]
        shares = [reward / peak if peak > 0 else 1.0 for reward, peak in sums]
        return sum(shares) / len(shares)
