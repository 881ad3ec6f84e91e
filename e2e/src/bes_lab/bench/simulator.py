"""Decisions per second of the compiled simulator on one core, and its ratio to a plain Python one."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from bes_api.scenario import Scenario
from bes_lab.bench.policies import HIDDEN_UNITS, RULE, base_parameters
from bes_lab.results import Record, Recorder
from bes_router.policy import candidates, placement, rules
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.defaults import default_parameters
from bes_router.policy.layout import Catalogue
from bes_router.policy.load import KINDS, PLACEMENTS, load_policy
from bes_training.evaluation.base_rate import largest_model, measure_base
from bes_training.simulation.brain import Brain
from bes_training.simulation.plain import PlainSimulator, Request, requests_of
from bes_training.simulation.simulate import (
    Outcomes,
    compiled_catalogue,
    learned_brain,
    new_simulation,
    play,
    rule_brain,
    simulate,
)
from bes_training.workloads.arrivals import arrivals, constant
from bes_training.workloads.requests import Mix, assemble
from bes_training.workloads.workload import Setting, Workload

MULTIPLE = 3.0
REQUESTS = 200_000
PLAIN_REQUESTS = 20_000
REPEATS = 5


def measure(name: str, scenario: Scenario, recorder: Recorder, say: Callable[[str], None]) -> list[Record]:
    """Records of one scenario: the compiled simulator with a rule and with the scorer, the plain one, the ratio."""
    catalogue = compiled_catalogue(scenario.model_dump_json())
    base = base_rate(scenario)
    workload = poisson(scenario, MULTIPLE * base, REQUESTS, recorder.seed or 0)
    say(f"{name}: base {base:.4g}/s, {len(scenario.models)} models on {len(scenario.gpus)} GPUs, {REQUESTS:,} requests")
    rule = the_rule(catalogue)
    width = candidates.WIDTH
    scorer = learned_brain(
        catalogue,
        np.array([base_parameters()] * 2),
        np.zeros((2, width)),
        np.zeros(HIDDEN_UNITS * width),
        np.zeros(HIDDEN_UNITS),
        np.zeros((2, HIDDEN_UNITS)),
    )
    with_rule = compiled_rate(scenario, workload, rule)
    with_scorer = compiled_rate(scenario, workload, scorer)
    plain = plain_rate(scenario, workload.head(PLAIN_REQUESTS))
    where = f"{name}, {MULTIPLE:g}x base"
    return [
        recorder.record(
            f"simulator-rule-{name}",
            f"simulated decisions with a rule inside ({where})",
            with_rule,
            "per second and core",
            ">= 1000000",
        ),
        recorder.record(
            f"simulator-scorer-{name}",
            f"simulated decisions with the scorer inside ({where})",
            with_scorer,
            "per second and core",
            ">= 300000",
        ),
        recorder.record(
            f"simulator-plain-{name}", f"the same in plain Python, with a rule ({where})", plain, "per second and core"
        ),
        recorder.record(
            f"simulator-ratio-{name}",
            f"compiled simulator over plain Python, with a rule ({where})",
            with_rule / plain,
            "times",
        ),
    ]


def the_rule(catalogue: Catalogue) -> Brain:
    """The benchmarks' rule as the simulator takes it."""
    kind = KINDS[RULE.type]
    return rule_brain(catalogue, kind, PLACEMENTS[RULE.placement], np.array(default_parameters(catalogue, kind)))


def base_rate(scenario: Scenario) -> float:
    """The base of a scenario (requests/s)."""
    catalogue = compiled_catalogue(scenario.model_dump_json())
    largest = [model.name for model in scenario.models].index(largest_model(scenario))
    static = rule_brain(catalogue, rules.STATIC, placement.LEAST_LOADED, np.array([rules.NO_GATE, float(largest)]))

    def run(workload: Workload) -> Outcomes:
        return simulate(scenario, workload, static)

    return measure_base(scenario, run)


def poisson(scenario: Scenario, rate: float, requests: int, seed: int) -> Workload:
    """``requests`` Poisson arrivals at ``rate``, every task equally often."""
    generator = np.random.default_rng(seed)
    instants = arrivals(generator, constant(rate, 1.02 * requests / rate))
    setting = Setting.of(scenario, rate)
    mix = Mix.uniform(len(scenario.tasks))
    return assemble(generator, "bench/0", instants, float(instants[-1]), setting, mix).head(requests)


def compiled_rate(scenario: Scenario, workload: Workload, brain: Brain) -> float:
    """Requests per second that the compiled simulator decides and serves; the median of several runs, compiled before.

    Setting the arrays up is not part of the time: a training reuses what it can and pays the rest once per workload.
    """
    catalogue = compiled_catalogue(scenario.model_dump_json())
    play(new_simulation(catalogue, workload.head(1000), scenario.max_in_flight), brain)
    seconds = []
    for _ in range(REPEATS):
        simulation = new_simulation(catalogue, workload, scenario.max_in_flight)
        started = time.perf_counter()
        play(simulation, brain)
        seconds.append(time.perf_counter() - started)
    return len(workload) / median(seconds)


def plain_rate(scenario: Scenario, workload: Workload) -> float:
    """Requests per second of the plain simulator, once."""
    simulator, requests = plain_run(scenario, workload)
    started = time.perf_counter()
    simulator.run(requests)
    return len(requests) / (time.perf_counter() - started)


def plain_run(scenario: Scenario, workload: Workload) -> tuple[PlainSimulator, list[Request]]:
    """A plain simulator and the requests of ``workload`` for it."""
    catalogue = catalogue_of(scenario)
    requests = requests_of(workload)
    return PlainSimulator(catalogue, load_policy(RULE, scenario, catalogue), scenario.max_in_flight), requests
