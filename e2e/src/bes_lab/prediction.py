"""What the simulator says about the very arrivals that a live run gets."""

from dataclasses import dataclass

import numpy as np

from bes_api.router_config import LearnedPolicy, OwnPolicy, PaperPolicy, PolicyChoice, RulePolicy, StaticPolicy
from bes_api.scenario import Scenario
from bes_lab.clips import Arrivals
from bes_router.policy import rules
from bes_router.policy.artifact import read_artifact
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.defaults import default_parameters
from bes_router.policy.load import KINDS, PLACEMENTS, load_policy
from bes_training.evaluation.base_rate import largest_model, measure_base
from bes_training.evaluation.contestants import artifact_brain, rule_of, simulated
from bes_training.simulation.brain import Brain
from bes_training.simulation.circumstances import Circumstances
from bes_training.simulation.plain import simulate_plainly
from bes_training.simulation.simulate import compiled_catalogue, rule_brain, simulate
from bes_training.workloads.workload import Ints, Workload


@dataclass(frozen=True)
class Prediction:
    """Performance as a share of peak, share in time, and the median latency of what was answered, in seconds."""

    performance: float
    in_time: float
    latency_p50: float


def base_rate(scenario: Scenario) -> float:
    """Requests/s that the largest model alone serves with 99 % in time: what load multiples refer to."""
    return measure_base(scenario, simulated(scenario, rule_of(scenario, largest_model(scenario))))


def predict(
    scenario: Scenario,
    arrivals: Arrivals,
    choice: PolicyChoice,
    routers: Ints | None = None,
    circumstances: Circumstances | None = None,
) -> Prediction:
    """The simulator's outcome of ``arrivals`` under ``choice``; absent: one router that sees the load as it is.

    The plain simulator, which policies of one's own run in, knows nothing else. Raises ValueError where more is asked.
    """
    workload = Workload(
        "live/0",
        arrivals.time,
        arrivals.task,
        arrivals.prompt_tokens,
        arrivals.output_tokens,
        np.zeros(arrivals.time.size, dtype=np.int64) if routers is None else routers,
        float(arrivals.time[-1]),
    )
    if isinstance(choice, OwnPolicy):
        if routers is not None or circumstances is not None:
            raise ValueError("a policy of one's own is predicted for one router and live figures only")
        policy = load_policy(choice, scenario, catalogue_of(scenario))
        outcomes = simulate_plainly(scenario, workload, policy)
    else:
        outcomes = simulate(scenario, workload, brain_of(scenario, choice), circumstances)
    return Prediction(
        float(outcomes.reward.sum() / outcomes.peak.sum()),
        float(outcomes.in_time.mean()),
        float(np.nanmedian(outcomes.latency)),
    )


def brain_of(scenario: Scenario, choice: RulePolicy | LearnedPolicy | PaperPolicy) -> Brain:
    """The policy as the simulator reads it. Raises ArtifactError."""
    if isinstance(choice, LearnedPolicy | PaperPolicy):
        return artifact_brain(scenario, read_artifact(choice.artifact))
    catalogue = compiled_catalogue(scenario.model_dump_json())
    placement = PLACEMENTS[choice.placement]
    if isinstance(choice, StaticPolicy):
        model = [each.name for each in scenario.models].index(choice.model)
        return rule_brain(catalogue, rules.STATIC, placement, np.array([rules.NO_GATE, float(model)]))
    parameters = choice.parameters or default_parameters(catalogue, KINDS[choice.type])
    return rule_brain(catalogue, KINDS[choice.type], placement, np.array(parameters))
