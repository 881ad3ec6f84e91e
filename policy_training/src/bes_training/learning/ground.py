"""The ground that everybody is trained and judged on: base rate, training traces, validation traces."""

from dataclasses import dataclass

import numpy as np

from bes_api.scenario import Scenario
from bes_router.policy.layout import Catalogue
from bes_training.evaluation.base_rate import largest_model, measure_base
from bes_training.evaluation.contestants import rule_of, simulated
from bes_training.evolution.traces import Field, Trace, draw_guessing, draw_trace, spread_guessing
from bes_training.learning.settings import TrainingSettings
from bes_training.simulation.circumstances import Circumstances
from bes_training.simulation.simulate import compiled_catalogue
from bes_training.workloads.suite import load_suite
from bes_training.workloads.traces import Part
from bes_training.workloads.workload import Setting

TRACES_SEED = 20_240_107  # the paper's month; any number would do, but it must stay the same


@dataclass(frozen=True)
class Ground:
    """See the module. Validation is the committed suite, live figures, one router."""

    scenario: Scenario
    catalogue: Catalogue
    base_rate: float
    training: Field
    validation: Field

    @property
    def setting(self) -> Setting:
        """What realises workloads for this scenario."""
        return Setting.of(self.scenario, self.base_rate)


def prepare(scenario: Scenario, settings: TrainingSettings) -> Ground:
    """Measure the base rate and draw the traces; the same scenario and settings give the same ground."""
    base = measure_base(scenario, simulated(scenario, rule_of(scenario, largest_model(scenario))))
    setting = Setting.of(scenario, base)
    generator = np.random.default_rng([TRACES_SEED, scenario.training_revision])
    drawn = [draw_trace(generator, scenario, setting, settings.requests) for _ in range(settings.traces)]
    suite = load_suite(Part.VALIDATION).realise(setting, max_requests=settings.validation_requests)
    held = [Trace(workload, Circumstances()) for workload in suite]
    return Ground(
        scenario=scenario,
        catalogue=compiled_catalogue(scenario.model_dump_json()),
        base_rate=base,
        training=Field(scenario, drawn, settings.threads),
        validation=Field(scenario, held, settings.threads),
    )


def prepare_guessing(ground: Ground, settings: TrainingSettings) -> tuple[Field, Field]:
    """Training and validation where several routers have old figures; the same arguments give the same traces."""
    scenario, setting = ground.scenario, ground.setting
    generator = np.random.default_rng([TRACES_SEED, scenario.training_revision, 1])
    drawn = [draw_guessing(generator, scenario, setting, settings.requests) for _ in range(settings.traces)]
    suite = load_suite(Part.VALIDATION).realise(setting, max_requests=settings.validation_requests)
    held = [spread_guessing(generator, scenario, workload) for workload in suite]
    return Field(scenario, drawn, settings.threads), Field(scenario, held, settings.threads)
