"""What one decision costs in the router: the load view and the policy's choice, as every request pays them."""

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bes_api.router_config import PolicyChoice
from bes_api.scenario import LatencyProfile, Scenario, ScenarioGPU, ScenarioModel, ScenarioTask
from bes_lab.bench.policies import policy_choices
from bes_lab.results import Record, Recorder
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Catalogue, RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.policy.tracker import LoadTracker

DECISIONS = 4000
ROUNDS = 7
RATE = 300.0
IN_FLIGHT = 120


@dataclass(frozen=True)
class Cost:
    """Median microseconds of one decision: ``whole`` counts arrival, view, choice and send, ``choice`` the choice."""

    whole: float
    choice: float


def measure(scenario: Scenario, recorder: Recorder) -> list[Record]:
    """Records for ``scenario`` (3 models on 4 GPUs) and for 10 models on 16 GPUs, with a rule and with the scorer."""
    records = []
    seed = recorder.seed or 0
    bars = {
        ("rule", "small"): "<= 15",
        ("scorer", "small"): "<= 60",
        ("rule", "large"): "<= 15",
        ("scorer", "large"): "<= 120",
    }
    for size, each in (("small", scenario), ("large", grown(scenario, models=10, gpus=16))):
        shape = f"{len(each.models)} models x {len(each.gpus)} GPUs"
        with tempfile.TemporaryDirectory() as folder:
            for name, choice in policy_choices(Path(folder), each, seed).items():
                cost = cost_of(each, choice, seed)
                claim = f"one decision with the {name} ({shape})"
                more = f"the same with arrival, load view and send ({name}, {shape})"
                records += [
                    recorder.record(f"decision-{name}-{size}", claim, cost.choice, "µs", bars[name, size]),
                    recorder.record(f"decision-{name}-{size}-whole", more, cost.whole, "µs"),
                ]
    return records


def cost_of(scenario: Scenario, choice: PolicyChoice, seed: int) -> Cost:
    """The cost of a decision under about ``IN_FLIGHT`` moving requests: the median over rounds of the mean."""
    catalogue = catalogue_of(scenario)
    policy = load_policy(choice, scenario, catalogue)
    whole, chosen = [], []
    for number in range(ROUNDS):
        seconds, choosing = _round(catalogue, policy, random.Random(seed + number))
        whole.append(seconds / DECISIONS * 1e6)
        chosen.append(choosing / DECISIONS * 1e6)
    return Cost(median(whole), median(chosen))


def _round(catalogue: Catalogue, policy: Policy, generator: random.Random) -> tuple[float, float]:
    """Seconds for ``DECISIONS`` decisions, and those in the policy. Figures come once a second and are not timed."""
    tracker = LoadTracker(catalogue, 0.0)
    tasks = range(len(catalogue.full_until))
    running: list[int] = []
    now = next_figures = 0.0
    whole = choosing = 0.0
    for _ in range(DECISIONS):
        now += generator.expovariate(RATE)
        if now >= next_figures:
            next_figures = now + 1.0
            tracker.snapshot(
                [own + generator.randrange(4) for own in tracker.own], list(tracker.own), [now] * len(tracker.own)
            )
        while len(running) > generator.randrange(2 * IN_FLIGHT):
            tracker.finished(running.pop(generator.randrange(len(running))))
        task = generator.choice(tasks)
        started = time.perf_counter()
        tracker.arrived(now)
        request = RoutingRequest(
            task,
            catalogue.prompt_tokens[task],
            catalogue.output_tokens[task],
            now + catalogue.full_until[task],
            now + catalogue.zero_from[task],
        )
        view = tracker.view(now)
        before = time.perf_counter()
        decision = policy.choose(request, view, now)
        after = time.perf_counter()
        tracker.sent(decision.engine, now)
        whole += time.perf_counter() - started
        choosing += after - before
        running.append(decision.engine)
    return whole, choosing


def grown(scenario: Scenario, models: int, gpus: int) -> Scenario:
    """``models`` models between the smallest and the largest of ``scenario``, each on all of ``gpus`` GPUs."""
    first, last = scenario.models[0], scenario.models[-1]
    names = [f"model-{number}" for number in range(models)]
    shares = [number / (models - 1) for number in range(models)]
    return Scenario(
        gpus=tuple(ScenarioGPU(interference=scenario.gpus[0].interference) for _ in range(gpus)),
        models=tuple(
            ScenarioModel(
                **{
                    **last.model_dump(exclude={"name", "latency", "placement"}),
                    "name": name,
                    "latency": _between(first.latency, last.latency, share),
                    "placement": tuple(range(gpus)),
                }
            )
            for name, share in zip(names, shares, strict=True)
        ),
        tasks=tuple(
            ScenarioTask(
                **{
                    **task.model_dump(exclude={"quality"}),
                    "quality": {
                        name: (1 - share) * task.quality[first.name] + share * task.quality[last.name]
                        for name, share in zip(names, shares, strict=True)
                    },
                }
            )
            for task in scenario.tasks
        ),
        default_task=scenario.default_task,
    )


def _between(low: LatencyProfile, high: LatencyProfile, share: float) -> LatencyProfile:
    """Constants on a straight line in logarithms."""
    lower, upper = low.model_dump(), high.model_dump()
    return LatencyProfile(**{name: lower[name] ** (1 - share) * upper[name] ** share for name in lower})
