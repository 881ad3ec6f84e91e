"""The rules, each with every placement, tuned as hard as the learner."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bes_api.passport import TunedRule
from bes_api.router_config import Placement
from bes_api.scenario import Scenario
from bes_router.policy.layout import Catalogue
from bes_training.evolution.search import Found, SearchSettings, search
from bes_training.evolution.spaces import PLACEMENT_NAMES, Space, opponents
from bes_training.evolution.traces import Field
from bes_training.learning.ground import Ground
from bes_training.learning.journal import Journal
from bes_training.learning.settings import FEW, TrainingSettings
from bes_training.learning.watch import Watch
from bes_training.simulation.brain import Brain

Float = NDArray[np.float64]
POPULATION = 10
SEED = 1


@dataclass(frozen=True)
class Opponents:
    """Tuned rules by name, what each loses on validation, and who is the comparator (best there)."""

    rules: dict[str, TunedRule]
    brains: tuple[Brain, ...]
    validation: Float  # [rules, validation traces]
    comparator: str
    decisions: int

    @property
    def best_on_validation(self) -> Float:
        """The best rule's loss on each validation trace."""
        best: Float = self.validation.min(axis=0)
        return best

    def best_on(self, traces: Field) -> Float:
        """The best rule's loss on each of other traces."""
        best: Float = traces.losses(self.brains, range(len(traces.traces))).min(axis=0)
        return best


def tune_opponents(ground: Ground, settings: TrainingSettings, journal: Journal, watch: Watch) -> Opponents:
    """Tune every rule with as many simulated decisions as the learner gets (less where a search has converged)."""
    spaces = rivals_of(ground.catalogue, settings)
    found = [_tuned(space, ground, settings, journal, watch) for space in spaces]
    brains = [space.brain(each.vector) for space, each in zip(spaces, found, strict=True)]
    validation = ground.validation.losses(brains, range(len(ground.validation.traces)))
    names = {code: Placement(name) for code, name in PLACEMENT_NAMES.items()}
    published = [_published(space.name, ground.scenario) for space in spaces]
    rules = {
        name: TunedRule(placement=names[brain.placement], parameters=tuple(brain.parameters.tolist()))
        for name, brain in zip(published, brains, strict=True)
    }
    comparator = published[int(validation.mean(axis=1).argmin())]
    return Opponents(rules, tuple(brains), validation, comparator, sum(each.decisions for each in found))


def _published(name: str, scenario: Scenario) -> str:
    """A space's name as passports and tables say it: statics by their model."""
    return re.sub(r"^Static(\d+)", lambda found: f"Static({scenario.models[int(found[1])].name})", name)


def rivals_of(catalogue: Catalogue, settings: TrainingSettings) -> list[Space]:
    """The rules that take part; a shortened training leaves out kinds that never measured best."""
    return [
        space
        for space in opponents(catalogue)
        if settings.opponents == "all" or any(re.fullmatch(name, space.name) for name in FEW)
    ]


def _tuned(space: Space, ground: Ground, settings: TrainingSettings, journal: Journal, watch: Watch) -> Found:
    stage = f"rule {space.name}"
    done = journal.found(stage)
    if done is not None:
        watch.skip(stage, settings.evolution_decisions)
        return done
    terms = SearchSettings(settings.evolution_decisions, SEED, population=POPULATION)
    with journal.timed(stage), watch.stage(stage, settings.evolution_decisions) as report:
        found = search(space, ground.training, ground.validation, terms, on_generation=report)
    journal.keep(stage, found)
    return found
