"""Scenarios, load views, requests and artifacts for the tests of policies, here and in `policy_training/tests`."""

from random import Random
from types import MappingProxyType

import numpy as np

from bes_api.passport import Passport, TrainingSummary
from bes_api.scenario import (
    Batching,
    LatencyProfile,
    Measure,
    OnMiss,
    Scenario,
    ScenarioGPU,
    ScenarioModel,
    ScenarioTask,
)
from bes_router.policy import candidates
from bes_router.policy.artifact import Artifact
from bes_router.policy.layout import Catalogue, LoadView, RoutingRequest

NO_DIGEST = "sha256:" + "0" * 64
BASE = (0.2, 0.0, 0.1, 1.0, 1.0, -20.0, *(0.0,) * 9)
"""The candidates' base rule close to Priced: no toll, no sharing cost, no slots."""
OPT = {  # latency constants (ms), largest batch, quality in two tasks
    "opt-125m": ((3.0, 0.003, 1.2, 0.004, 0.00006), 256, (0.379, 0.63)),
    "opt-1.3b": ((7.94, 0.01801, 3.658, 0.008, 0.000304), 128, (0.579, 0.717)),
    "opt-6.7b": ((14.52, 0.07201, 10.321, 0.02, 0.000565), 64, (0.677, 0.763)),
}


def latency(constants: tuple[float, float, float, float, float]) -> LatencyProfile:
    base, token, decode, sequence, context = constants
    return LatencyProfile(
        prefill_base_ms=base,
        prefill_per_token_ms=token,
        decode_base_ms=decode,
        decode_per_sequence_ms=sequence,
        decode_per_context_token_ms=context,
    )


def opt_scenario(
    interference: float = 0.0, batching: Batching = Batching.PREFILL_FIRST, max_in_flight: int = 512
) -> Scenario:
    """Three OPT sizes on each of four GPUs; a hard task and a soft one."""
    return Scenario(
        gpus=(ScenarioGPU(group="a", interference=interference),) * 4,
        models=tuple(
            ScenarioModel(
                name=name,
                latency=latency(constants),
                batching=batching,
                prefill_token_budget=4096,
                max_batch_size=batch,
                kv_cache_tokens=60_000,
                context_tokens=2048,
                placement=(0, 1, 2, 3),
            )
            for name, (constants, batch, _) in OPT.items()
        ),
        tasks=tuple(
            ScenarioTask(
                name=name,
                full_until_seconds=0.6,
                zero_from_seconds=zero_from,
                quality={model: qualities[index] for model, (_, _, qualities) in OPT.items()},
                prompt_tokens=128,
                output_tokens=16,
            )
            for index, (name, zero_from) in enumerate((("hard", 0.6), ("soft", 2.0)))
        ),
        default_task="hard",
        max_in_flight=max_in_flight,
    )


def random_scenario(random: Random) -> Scenario:
    """One to four models anywhere on one to three GPUs; missing qualities, short contexts, small caps, any deadline."""
    gpus = random.randint(1, 3)
    names = [f"model-{number}" for number in range(random.randint(1, 4))]
    return Scenario(
        gpus=tuple(ScenarioGPU(interference=random.choice((0.0, 0.4, 1.0))) for _ in range(gpus)),
        models=tuple(
            ScenarioModel(
                name=name,
                latency=latency(
                    (
                        random.uniform(1, 20),
                        random.uniform(0, 0.1),
                        random.uniform(0.5, 15),
                        random.uniform(0, 0.05),
                        random.uniform(0, 1e-3),
                    )
                ),
                batching=random.choice(list(Batching)),
                prefill_token_budget=random.randint(64, 2048),
                max_batch_size=random.randint(1, 32),
                kv_cache_tokens=random.randint(300, 4000),
                context_tokens=random.choice((200, 2048)),
                placement=tuple(random.randrange(gpus) for _ in range(random.randint(1, 4))),
            )
            for name in names
        ),
        tasks=tuple(_random_task(random, f"task-{number}", names) for number in range(random.randint(1, 3))),
        default_task="task-0",
    )


def _random_task(random: Random, name: str, models: list[str]) -> ScenarioTask:
    full = random.uniform(0.05, 1.0)
    return ScenarioTask(
        name=name,
        full_until_seconds=full,
        zero_from_seconds=full + random.choice((0.0, random.uniform(0.0, 2.0))),
        measure=random.choice(list(Measure)),
        on_miss=random.choice(list(OnMiss)),
        quality={model: random.random() for model in models if random.random() < 0.8},
        prompt_tokens=random.randint(1, 200),
        output_tokens=random.randint(1, 24),
    )


def random_view(catalogue: Catalogue, random: Random, now: float) -> LoadView:
    """Any load, any readiness, whatever was last sent anywhere; the sums are those of `blend`."""
    engines, models, gpus = len(catalogue.engine_model), len(catalogue.context), len(catalogue.interference)
    load = [random.choice((0.0, random.uniform(0, 3), random.uniform(0, 60))) for _ in range(engines)]
    ready = [int(random.random() < 0.75) for _ in range(engines)]
    on = [[engine for engine in range(engines) if catalogue.engine_gpu[engine] == gpu] for gpu in range(gpus)]
    of = [[each for each in range(engines) if catalogue.engine_model[each] == model] for model in range(models)]
    return LoadView(
        load=load,
        model_load=[sum(load[engine] for engine in each if ready[engine]) for each in of],
        gpu_load=[sum(load[engine] for engine in each) for each in on],
        gpu_busy=[sum(min(1.0, load[engine]) for engine in each) for each in on],
        ready=ready,
        ready_count=[sum(ready[engine] for engine in each) for each in of],
        sent_engine=[now - random.choice((0.0, random.uniform(0, 0.1), 1e9)) for _ in range(engines)],
        sent_gpu=[now - random.choice((0.0, random.uniform(0, 0.1), 1e9)) for _ in range(gpus)],
        last_engine=[random.choice((-1, random.choice(each))) for each in of],
        rate_fast=random.choice((0.0, random.uniform(0, 2000))),
        rate_slow=random.choice((0.0, random.uniform(0, 2000))),
        guessed=random.choice((0.0, random.random())),
    )


def random_request(catalogue: Catalogue, random: Random, now: float) -> RoutingRequest:
    """Any task, any length from one token up, deadlines ahead or past, pinned or not."""
    full = now + random.uniform(-0.2, 2.0)
    return RoutingRequest(
        task=random.randrange(len(catalogue.full_until)),
        prompt_tokens=random.choice((1, random.randint(1, 300), random.randint(1, 3000))),
        output_tokens=random.choice((1, random.randint(1, 100))),
        full_until=full,
        zero_from=full + random.choice((0.0, random.uniform(0, 2))),
        pinned=random.choice((-1, -1, random.randrange(len(catalogue.context)))),
    )


def eligible_models(catalogue: Catalogue, view: LoadView, request: RoutingRequest) -> set[int]:
    """Written apart from the code under test: ready, stated quality, short enough, the pin if there is one."""
    models = len(catalogue.context)
    return {
        model
        for model in range(models)
        if any(
            view.ready[engine]
            for engine in range(len(catalogue.engine_model))
            if catalogue.engine_model[engine] == model
        )
        and catalogue.quality[request.task * models + model] >= 0
        and request.prompt_tokens + request.output_tokens <= catalogue.context[model]
        and request.pinned in (-1, model)
    }


def passport(scenario: Scenario, kind: str, base: tuple[float, ...] = BASE) -> Passport:
    models = tuple(model.name for model in scenario.models)
    tasks = tuple(task.name for task in scenario.tasks)
    learned = kind == "Learned"
    paper_names = (*(f"task {each}" for each in tasks), *(f"batch {each}" for each in models), "rate")
    names = candidates.FEATURES if learned else paper_names
    return Passport(
        kind="Learned" if learned else "Paper",
        layout="candidate/2" if learned else "paper/1",
        feature_names=names,
        feature_offset=(0.0,) * len(names),
        feature_scale=(1.0,) * len(names),
        models=models,
        tasks=tasks,
        scenario_hash=scenario.content_hash(),
        seeds=(0,),
        weights_sha256=NO_DIGEST,
        base_parameters=base if learned else (),
        guessed_base_parameters=tuple(0.8 * each for each in base) if learned else (),
        training=TrainingSummary(learner="Evolution" if learned else "DQN", decisions=0, seconds=0.0, seed=0),
    )


def learned_artifact(
    scenario: Scenario, seed: int, units: int = 5, scale: float = 0.1, base: tuple[float, ...] = BASE
) -> Artifact:
    """A scorer with random weights; ``scale`` 0 makes linear and out weights exactly 0."""
    generator = np.random.default_rng(seed)
    width = candidates.WIDTH
    linear, hidden = scale * generator.normal(size=width), generator.normal(size=(units, width))
    bias, out = generator.normal(size=units), scale * generator.normal(size=units)
    guessed = [scale * generator.normal(size=len(each)) for each in (linear, out)]
    tensors = {
        "linear": np.stack([linear, guessed[0]]),
        "hidden": hidden,
        "bias": bias,
        "out": np.stack([out, guessed[1]]),
    }
    return Artifact(passport(scenario, "Learned", base), MappingProxyType(tensors))


def paper_artifact(scenario: Scenario, seed: int, units: int = 8) -> Artifact:
    """The paper's network with random weights and small hidden layers."""
    generator = np.random.default_rng(seed)
    inputs, outputs = len(scenario.tasks) + len(scenario.models) + 1, len(scenario.models)
    tensors = {
        "weight1": generator.normal(size=(units, inputs)),
        "bias1": generator.normal(size=units),
        "weight2": generator.normal(size=(units, units)),
        "bias2": generator.normal(size=units),
        "weight3": generator.normal(size=(outputs, units)),
        "bias3": generator.normal(size=outputs),
    }
    return Artifact(passport(scenario, "Paper"), MappingProxyType(tensors))
