"""The policies that every benchmark uses: a rule and a scorer, both untrained: only their cost is measured."""

from pathlib import Path

import numpy as np

from bes_api.passport import Passport, TrainingSummary
from bes_api.router_config import DeadlineAwarePolicy, LearnedPolicy, PolicyChoice
from bes_api.scenario import Scenario
from bes_router.policy import candidates, rules
from bes_router.policy.artifact import write_artifact

HIDDEN_UNITS = 16
RULE = DeadlineAwarePolicy()


def policy_choices(folder: Path, scenario: Scenario, seed: int) -> dict[str, PolicyChoice]:
    """The rule, and a scorer of the usual size whose artifact is written to ``folder``."""
    scorer = folder / "scorer"
    write_scorer(scorer, scenario, seed)
    return {"rule": RULE, "scorer": LearnedPolicy(artifact=scorer)}


def base_parameters() -> list[float]:
    """A base rule that behaves sensibly at any load: expected quality in time less a price that rises with the rate."""
    parameters = [0.0] * candidates.BASE_PARAMETERS
    parameters[candidates.MARGIN] = 0.1
    parameters[candidates.SPREAD] = 0.1
    parameters[candidates.PRICE] = 0.3
    parameters[candidates.PRICE_POWER] = 1.0
    parameters[candidates.TOLL] = -3.0
    parameters[candidates.TOLL_SLOW] = 1.5
    parameters[candidates.SHARING] = 0.5
    parameters[candidates.SLOT_GATE] = rules.NO_GATE
    return parameters


def write_scorer(folder: Path, scenario: Scenario, seed: int) -> None:
    """An artifact with small random weights on top of the base rule."""
    generator = np.random.default_rng(seed)
    width = candidates.WIDTH
    passport = Passport(
        kind="Learned",
        layout="candidate/2",
        feature_names=candidates.FEATURES,
        feature_offset=(0.0,) * width,
        feature_scale=(1.0,) * width,
        models=tuple(model.name for model in scenario.models),
        tasks=tuple(task.name for task in scenario.tasks),
        scenario_hash=scenario.content_hash(),
        seeds=(seed,),
        weights_sha256="sha256:" + "0" * 64,  # the writer puts the real one
        base_parameters=tuple(base_parameters()),
        guessed_base_parameters=tuple(base_parameters()),
        training=TrainingSummary(learner="Evolution", decisions=0, seconds=0.0, seed=seed),
    )
    tensors = {
        "linear": 0.01 * generator.standard_normal((2, width)),
        "hidden": 0.25 * generator.standard_normal((HIDDEN_UNITS, width)),
        "bias": 0.25 * generator.standard_normal(HIDDEN_UNITS),
        "out": 0.01 * generator.standard_normal((2, HIDDEN_UNITS)),
    }
    write_artifact(folder, passport, tensors)
