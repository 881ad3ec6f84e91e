"""Our DQN beside Stable-Baselines3's: the same network and the same environment, in the same run.

Stable-Baselines3 steps one environment at a time, has no eligible sets (a model that may not be chosen becomes the
first that may) and pays a reward with the step in which it becomes known, not to the decision that earned it; the sum
over an episode is the same. Its packages exist in the environment of `make bench` only.
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import DQN

from bes_api.scenario import Scenario
from bes_lab.bench.simulator import base_rate
from bes_lab.results import Record, Recorder
from bes_training.dqn.episodes import MAX_DEATHS, Episodes
from bes_training.dqn.learner import Progress, train_dqn
from bes_training.dqn.network import Layers, network_of, torch_threads
from bes_training.dqn.settings import DQNSettings
from bes_training.dqn.validation import Validation, validation_workloads
from bes_training.dqn.vector import Simulations, new_memory
from bes_training.simulation.simulate import compiled_catalogue
from bes_training.workloads.training import MAX_ROUTERS

DECISIONS = 1_200_000
OUR_TIMED_DECISIONS = 200_000
TIMED_DECISIONS = 10_000
SB3_DECISIONS = 60_000
SB3_PARTS = 6
OWN_BATCH, OWN_SAMPLES = 32, 8.0
"""Stable-Baselines3's defaults: 32 samples every fourth decision."""

Array = NDArray[Any]


class OneSimulation(gymnasium.Env[Array, int]):  # type: ignore[misc]  # untyped: gymnasium is absent where lint runs
    """The training's environment with one simulation, as gymnasium wants it."""

    def __init__(self, scenario: Scenario, base: float, settings: DQNSettings) -> None:
        catalogue = compiled_catalogue(scenario.model_dump_json())
        room = settings.episode_requests
        self._simulations = Simulations(
            catalogue, scenario.max_in_flight, rows=1, requests=room, routers=MAX_ROUTERS, deaths=MAX_DEATHS
        )
        self._memory = new_memory(self._simulations, room + 2)
        self._episodes = Episodes(scenario, catalogue, base, room)
        self._rng = np.random.default_rng(settings.seed)
        width, models = self._simulations.batch.observation.shape[1], self._simulations.batch.allowed.shape[1]
        self.observation_space = gymnasium.spaces.Box(0.0, np.inf, (width,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(models)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """A new random episode."""
        super().reset(seed=seed, options=options)
        waiting = False
        while not waiting:
            self._simulations.put(0, *self._episodes.draw(self._rng))
            self._simulations.begin(0)
            waiting = bool(self._simulations.awaiting[0])
        self._memory.made[0] = self._memory.settled[0] = 0
        return self._simulations.batch.observation[0].copy(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One decision; the reward is what became known until the next one."""
        allowed = self._simulations.batch.allowed[0]
        model = int(action) if allowed[action] else int(allowed.argmax())
        before = int(self._memory.settled[0])
        over = self._simulations.decide(self._memory, np.array([model])) == 0
        reward = float(self._memory.reward[0, before : int(self._memory.settled[0])].sum())
        return self._simulations.batch.observation[0].copy(), reward, over, False, {}


def learner(environment: OneSimulation, settings: DQNSettings, batch: int, samples: float) -> Any:
    """Stable-Baselines3's DQN with our network: ``samples`` per decision, ``batch`` of them at once."""
    return DQN(
        "MlpPolicy",
        environment,
        policy_kwargs={"net_arch": [settings.hidden, settings.hidden]},
        learning_rate=settings.learning_rate,
        buffer_size=100_000,
        learning_starts=1_000,
        batch_size=batch,
        train_freq=max(1, int(batch / samples)),
        gradient_steps=1,
        gamma=settings.gamma,
        exploration_fraction=1e-9,
        exploration_final_eps=settings.epsilon,
        target_update_interval=1_000,
        seed=settings.seed,
        device="cpu",
    )


def layers_of(model: Any) -> Layers:
    """Its network's weights."""
    one, two, three, four, five, six = (
        parameter.detach().numpy().astype(np.float64) for parameter in model.q_net.parameters()
    )
    return one, two, three, four, five, six


def our_seconds_per_decision(scenario: Scenario, base: float, decisions: int) -> float:
    """Of our training, next to no validation in it."""
    settings = DQNSettings(decisions=decisions, validations=1, validation_requests=50)
    result = train_dqn(scenario, settings, base, lambda _: None)
    return result.seconds / result.decisions


def seconds_per_decision(scenario: Scenario, base: float, settings: DQNSettings, batch: int, samples: float) -> float:
    """Of Stable-Baselines3, once it trains."""
    model = learner(OneSimulation(scenario, base, settings), settings, batch, samples)
    model.learn(2_000)
    started = time.perf_counter()
    model.learn(TIMED_DECISIONS, reset_num_timesteps=False)
    return (time.perf_counter() - started) / TIMED_DECISIONS


def best_of_sb3(
    scenario: Scenario, base: float, settings: DQNSettings, say: Callable[[str], None]
) -> tuple[float, float]:
    """Its best validation performance within ``SB3_DECISIONS`` and the seconds of learning until then."""
    workloads = validation_workloads(scenario, base, settings.validation_requests)
    catalogue = compiled_catalogue(scenario.model_dump_json())
    validation = Validation(catalogue, scenario.max_in_flight, workloads)
    model = learner(OneSimulation(scenario, base, settings), settings, OWN_BATCH, OWN_SAMPLES)
    spent, best, best_at = 0.0, 0.0, 0.0
    for part in range(SB3_PARTS):
        started = time.perf_counter()
        model.learn(SB3_DECISIONS // SB3_PARTS, reset_num_timesteps=part == 0)
        spent += time.perf_counter() - started
        performance = validation.performance(network_of(layers_of(model)))
        say(f"Stable-Baselines3: {model.num_timesteps:,} decisions, {spent:.0f} s, validation {performance:.4f}")
        if performance > best:
            best, best_at = performance, spent
    return best, best_at


def measure(name: str, scenario: Scenario, recorder: Recorder, say: Callable[[str], None]) -> list[Record]:
    """Records: our training's time and score, the ratio per decision, the ratio of times to an equal score."""
    base = base_rate(scenario)
    settings = DQNSettings(decisions=DECISIONS, seed=recorder.seed or 0)
    our_seconds_per_decision(scenario, base, 5_000)  # compiles
    reached: list[tuple[float, float]] = []

    def note(progress: Progress) -> None:
        if progress.best is not None and (not reached or progress.best > reached[-1][1]):
            reached.append((progress.seconds, progress.best))
            say(f"ours: {progress.decisions:,} decisions, {progress.seconds:.0f} s, validation {progress.best:.4f}")

    ours = train_dqn(scenario, settings, base, note)
    each = our_seconds_per_decision(scenario, base, OUR_TIMED_DECISIONS)
    with torch_threads(settings.threads):
        theirs = [
            seconds_per_decision(scenario, base, settings, batch, samples)
            for batch, samples in (
                (OWN_BATCH, OWN_SAMPLES),
                (OWN_BATCH, settings.samples_per_decision),
                (settings.batch, settings.samples_per_decision),
            )
        ]
        best, best_at = best_of_sb3(scenario, base, settings, say)
    figures = ", ".join(f"{1e6 * seconds:.0f}" for seconds in theirs)
    say(f"microseconds per decision: ours {1e6 * each:.0f}, Stable-Baselines3 {figures}")
    first = next((seconds for seconds, performance in reached if performance >= best), None)
    samples = f"{settings.samples_per_decision:g}"
    return [
        recorder.record(
            f"dqn-seconds-{name}",
            f"double DQN, {ours.decisions:,} decisions in both phases, {settings.validations} validations ({name})",
            ours.seconds,
            "s",
            "<= 240",
        ),
        recorder.record(
            f"dqn-validation-{name}", f"its best validation performance ({name})", ours.performance, "of peak"
        ),
        recorder.record(
            f"dqn-sb3-decision-{name}",
            f"Stable-Baselines3's time per decision over ours, each as it comes: {OWN_SAMPLES:g} samples per decision "
            f"in batches of {OWN_BATCH}, ours {samples} in batches of {settings.batch} ({name})",
            theirs[0] / each,
            "times",
            ">= 20",
        ),
        recorder.record(
            f"dqn-sb3-decision-same-samples-{name}",
            f"the same with {samples} samples on both sides ({name})",
            theirs[1] / each,
            "times",
        ),
        recorder.record(
            f"dqn-sb3-decision-same-batch-{name}",
            f"the same with {samples} samples in batches of {settings.batch} on both sides ({name})",
            theirs[2] / each,
            "times",
        ),
        recorder.record(
            f"dqn-sb3-validation-{name}",
            f"Stable-Baselines3's best validation performance within {SB3_DECISIONS:,} decisions ({name})",
            best,
            "of peak",
        ),
        recorder.record(
            f"dqn-sb3-equal-score-{name}",
            f"Stable-Baselines3's time to that score over ours to the same ({name})",
            None if first is None else best_at / first,
            "times",
        ),
    ]
