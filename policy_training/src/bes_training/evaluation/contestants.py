"""Who takes part in an evaluation: every static model, the rules (tuned where an artifact tells how), artifacts."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bes_api.errors import BestEffortError
from bes_api.passport import TunedRule
from bes_api.router_config import Placement
from bes_api.scenario import Scenario
from bes_router.policy import own, rules
from bes_router.policy.artifact import Artifact, fits, read_artifact
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.defaults import default_parameters
from bes_router.policy.load import KINDS, PLACEMENTS
from bes_training.evaluation.figures import RunOutcomes, Simulate
from bes_training.simulation.brain import Brain
from bes_training.simulation.circumstances import Circumstances, LoadFigures
from bes_training.simulation.plain import simulate_plainly
from bes_training.simulation.simulate import compiled_catalogue, learned_brain, paper_brain, rule_brain, simulate
from bes_training.workloads.workload import Workload

RULES = ("DeadlineAware", "Priced", "Threshold")


class UnknownPolicyError(BestEffortError):
    """A policy was named that is neither a rule, a model nor a folder with an artifact."""


@dataclass(frozen=True)
class Contestants:
    """Policies by name, in order; ``statics`` and ``rules`` name the hand-written ones among them."""

    policies: dict[str, Simulate] = field(default_factory=dict)
    statics: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def static_name(model: str) -> str:
    """How the policy that always takes ``model`` is called, here and in the router."""
    return f"Static({model})"


def live_figures(workload: Workload) -> LoadFigures:
    """Live load figures for as many routers as the workload names."""
    return LoadFigures.live(len(workload.router_shares()))


def contestants_of(
    scenario: Scenario, named: Sequence[str], figures: Callable[[Workload], LoadFigures] = live_figures
) -> Contestants:
    """Every static model, every rule and what ``named`` adds: ``NAME``, ``NAME/PLACEMENT`` or an artifact's folder.

    A name may also be that of an installed policy of one's own, which is simulated plainly (far slower, and live).

    A rule that an artifact tuned for the same scenario takes part as tuned instead of with the published defaults.
    Raises UnknownPolicyError and ArtifactError.
    """
    folders = [Path(name) for name in named if os.path.isdir(name)]  # noqa: PTH112 - Path's raises for long names
    artifacts = {str(folder): read_artifact(folder) for folder in folders}
    for artifact in artifacts.values():
        fits(artifact, scenario)
    brains = {static_name(model.name): rule_of(scenario, model.name) for model in scenario.models}
    statics = tuple(brains)
    tuned = _tuned_rules(scenario, artifacts.values())
    untuned = [name for name in RULES if not any(each.startswith(name) for each in tuned)]
    brains |= {name: rule_of(scenario, name) for name in untuned}
    brains |= {name: tuned_brain(scenario, name, rule) for name, rule in tuned.items()}
    owned = {name: own_simulated(scenario, name) for name in named if name not in artifacts and name in own.installed()}
    for name in named:
        if name not in artifacts and name not in owned:
            brains |= {_shown(scenario, name): rule_of(scenario, name)}
    hand_written = tuple(brains)
    for where, artifact in artifacts.items():
        brains[_artifact_name(where, artifact, brains)] = artifact_brain(scenario, artifact)
    compiled = {name: simulated(scenario, brain, figures) for name, brain in brains.items()}
    return Contestants({**compiled, **owned}, statics, hand_written)


def simulated(scenario: Scenario, brain: Brain, figures: Callable[[Workload], LoadFigures] = live_figures) -> Simulate:
    """A brain in the simulator, under load ``figures`` of that workload."""

    def run(workload: Workload) -> RunOutcomes:
        return simulate(scenario, workload, brain, Circumstances(figures=figures(workload)))

    return run


def own_simulated(scenario: Scenario, name: str) -> Simulate:
    """An installed policy of one's own in the plain simulator, anew for each workload. Raises OwnPolicyError."""
    own.load(name, scenario, catalogue_of(scenario))  # what fails, fails at the start

    def run(workload: Workload) -> RunOutcomes:
        return simulate_plainly(scenario, workload, own.load(name, scenario, catalogue_of(scenario)))

    return run


def rule_of(scenario: Scenario, name: str) -> Brain:
    """``NAME`` or ``NAME/PLACEMENT`` with its default parameters, where NAME is a rule or (static) a model."""
    rule, _, place = name.partition("/")
    places = {each.value: each for each in Placement}
    models = [model.name for model in scenario.models]
    if (place and place not in places) or (rule not in RULES and rule not in models):
        raise UnknownPolicyError(
            f"policy {name!r} is neither a rule ({', '.join(RULES)}), a model ({', '.join(models)}), a folder with an "
            f"artifact nor an installed policy; a placement ({', '.join(places)}) may follow a rule or model after a "
            "slash"
        )
    placement = PLACEMENTS[places[place] if place else Placement.LEAST_LOADED]
    catalogue = compiled_catalogue(scenario.model_dump_json())
    if rule in models:
        return rule_brain(catalogue, rules.STATIC, placement, np.array([rules.NO_GATE, float(models.index(rule))]))
    parameters = default_parameters(catalogue, KINDS[rule])
    return rule_brain(catalogue, KINDS[rule], placement, np.array(parameters))


def tuned_brain(scenario: Scenario, name: str, rule: TunedRule) -> Brain:
    """A tuned rule of a passport; its kind is what its name begins with. Raises UnknownPolicyError."""
    match = re.match("|".join(KINDS), name)
    catalogue = compiled_catalogue(scenario.model_dump_json())
    if match is None or len(rule.parameters) != len(default_parameters(catalogue, KINDS[match[0]])):
        raise UnknownPolicyError(f"tuned rule {name!r} does not fit this service; train again")
    return rule_brain(catalogue, KINDS[match[0]], PLACEMENTS[rule.placement], np.array(rule.parameters))


def artifact_brain(scenario: Scenario, artifact: Artifact) -> Brain:
    """An artifact's weights as the simulator reads them."""
    catalogue = compiled_catalogue(scenario.model_dump_json())
    tensors = artifact.tensors
    if artifact.passport.kind == "Paper":
        one, two, three = ((tensors[f"weight{each}"].ravel(), tensors[f"bias{each}"]) for each in (1, 2, 3))
        return paper_brain(catalogue, (*one, *two, *three))
    base = np.array([artifact.passport.base_parameters, artifact.passport.guessed_base_parameters])
    linear, hidden, bias, out = (tensors[name] for name in ("linear", "hidden", "bias", "out"))
    return learned_brain(catalogue, base, linear, hidden.ravel(), bias, out)


def _tuned_rules(scenario: Scenario, artifacts: Iterable[Artifact]) -> dict[str, TunedRule]:
    """Tuned rules of the artifacts that were trained for exactly this scenario, the first artifact's first."""
    found: dict[str, TunedRule] = {}
    for artifact in artifacts:
        if artifact.passport.scenario_hash == scenario.content_hash():
            found = {**artifact.passport.tuned_rules, **found}
    return {f"{name} (tuned)": rule for name, rule in found.items()}


def _shown(scenario: Scenario, name: str) -> str:
    rule, slash, place = name.partition("/")
    return f"{static_name(rule) if rule in {model.name for model in scenario.models} else rule}{slash}{place}"


def _artifact_name(where: str, artifact: Artifact, taken: Iterable[str]) -> str:
    """``Learned`` or ``Paper``, with the folder where that is taken."""
    kind = str(artifact.passport.kind)
    return f"{kind} ({where})" if kind in taken else kind
