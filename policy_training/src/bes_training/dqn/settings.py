"""What a DQN training can be told. The paper states the network and the number of decisions; the rest is ours."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DQNSettings:
    """Every number of a training."""

    decisions: int = 1_200_000
    """Simulated decisions of both phases together (the paper's number)."""
    seed: int = 0
    hidden: int = 256
    """Units in each of the two layers (the paper's number)."""
    hard_share: float = 0.6
    """Part of the decisions made with every deadline hard; the rest fine-tunes for the service's own."""
    environments: int = 128
    batch: int = 512
    samples_per_decision: float = 4.0
    """Transitions trained on per decision made."""
    gamma: float = 0.9
    """Per decision, ours. Measured at 1.2 million decisions, one seed, validation: 0.97 gives .963 without interference
    and .869 with it, 0.9 gives .960 and .896."""
    steps: int = 5
    """n of the n-step returns."""
    epsilon: float = 0.2
    learning_rate: float = 1e-3
    """At the start of each phase; it falls linearly to a twentieth, and the fine-tuning starts at half."""
    target_rate: float = 0.01
    """Part of the way that the target network moves towards the online one at each update."""
    memory: int = 500_000
    """Decisions kept, at least what one episode of every environment holds."""
    warmup: int = 10_000
    """Decisions ready to be drawn before the first update."""
    episode_requests: int = 4_000
    validations: int = 24
    validation_requests: int = 4_000
    """Requests played of each validation workload."""
    checkpoint_decisions: int = 200_000
    threads: int = 1
    """Torch's: a second one gains little at this size, and on a busy machine each waits for the other. Another number
    gives other roundings, so other weights."""

    def __post_init__(self) -> None:
        for name in ("decisions", "hidden", "environments", "batch", "steps", "episode_requests", "validations"):
            if getattr(self, name) < 1:
                raise ValueError(f"DQN setting {name} is {getattr(self, name)}; give at least 1")
        for name in ("hard_share", "gamma", "epsilon", "target_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"DQN setting {name} is {getattr(self, name)}; give a number from 0 to 1")
