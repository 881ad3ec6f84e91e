"""Workloads and brains for whole runs of the simulator."""

from collections.abc import Sequence

import numpy as np
from policy_scenarios import BASE, learned_artifact, paper_artifact

from bes_api.scenario import Scenario
from bes_router.policy import placement, rules
from bes_router.policy.artifact import PAPER_TENSORS, Artifact
from bes_router.policy.defaults import default_parameters
from bes_router.policy.layout import Catalogue
from bes_training.simulation import kernel
from bes_training.simulation.brain import Brain
from bes_training.simulation.simulate import arrays_of, learned_brain, new_simulation, paper_brain, rule_brain
from bes_training.workloads.arrivals import arrivals, constant
from bes_training.workloads.requests import Mix, assemble
from bes_training.workloads.workload import Setting, Workload


def poisson(
    scenario: Scenario,
    rate: float,
    requests: int,
    seed: int = 0,
    routers: Sequence[float] = (1.0,),
    length_cv: float = 0.0,
) -> Workload:
    """``requests`` Poisson arrivals, every task equally often, routers by share."""
    generator = np.random.default_rng(seed)
    instants = arrivals(generator, constant(rate, 1.3 * requests / rate + 1.0))
    return assemble(
        generator,
        f"poisson/{seed}",
        instants,
        float(instants[-1]),
        Setting.of(scenario, rate),
        Mix.uniform(len(scenario.tasks)),
        routers=Mix.given(np.array(routers)),
        length_cv=length_cv,
    ).head(requests)


def at_instants(times: Sequence[float], prompt: int = 128, output: int = 16, task: int = 0) -> Workload:
    """Equal requests at given instants, one router."""
    count = len(times)
    return Workload(
        "given/0",
        np.array(times, dtype=np.float64),
        np.full(count, task),
        np.full(count, prompt),
        np.full(count, output),
        np.zeros(count, dtype=np.int64),
        times[-1] if times else 0.0,
    )


def brain_of(catalogue: Catalogue, artifact: Artifact) -> Brain:
    """An artifact's weights as a brain."""
    tensors = artifact.tensors
    if artifact.passport.kind == "Learned":
        return learned_brain(
            catalogue,
            np.array([artifact.passport.base_parameters, artifact.passport.guessed_base_parameters]),
            tensors["linear"],
            tensors["hidden"].ravel(),
            tensors["bias"],
            tensors["out"],
        )
    first, bias1, second, bias2, third, bias3 = (tensors[name].ravel() for name in PAPER_TENSORS)
    return paper_brain(catalogue, (first, bias1, second, bias2, third, bias3))


def every_brain(scenario: Scenario, catalogue: Catalogue, seed: int = 0) -> dict[str, Brain]:
    """Each rule with a placement of its own, a scorer whose every feature matters, the paper's network."""
    kinds = {
        "Static": (rules.STATIC, placement.LEAST_LOADED),
        "DeadlineAware": (rules.DEADLINE_AWARE, placement.LEAST_FINISH),
        "Priced": (rules.PRICED, placement.BUNCHED),
        "Threshold": (rules.THRESHOLD, placement.LEAST_LOADED),
    }
    brains = {}
    for name, (kind, place) in kinds.items():
        parameters = np.array(default_parameters(catalogue, kind))
        parameters[rules.GATE] = 20.0
        brains[name] = rule_brain(catalogue, kind, place, parameters)
    busy_base = (*BASE[:5], -3.0, 0.5, 0.5, 0.2, 0.3, 0.4, 0.5, 0.1, 0.1, 20.0)
    brains["Learned"] = brain_of(catalogue, learned_artifact(scenario, seed, base=busy_base))
    brains["Paper"] = brain_of(catalogue, paper_artifact(scenario, seed))
    return brains


def fresh(
    scenario: Scenario, catalogue: Catalogue, workload: Workload, circumstances: object = None
) -> kernel.Simulation:
    """A run at its beginning, over arrays of its own."""
    return new_simulation(arrays_of(catalogue), workload, scenario.max_in_flight, circumstances)  # type: ignore[arg-type]  # None: none
