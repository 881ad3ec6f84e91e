"""What an answer is worth, once, for router, simulator and replay."""

from bes_router.policy.layout import Catalogue


def reward_share(elapsed: float, full_until: float, zero_from: float) -> float:
    """Share of the quality that an answer after ``elapsed`` seconds earns: 1, then linear to 0 (equal bounds: hard)."""
    if elapsed <= full_until:
        return 1.0
    if elapsed >= zero_from:
        return 0.0
    return (zero_from - elapsed) / (zero_from - full_until)


def eligible(catalogue: Catalogue, model: int, task: int, ready: int, tokens: int) -> bool:
    """Whether a model may serve a request: a ready backend, a stated quality, prompt + output within its context."""
    models = len(catalogue.context)
    return ready > 0 and catalogue.quality[task * models + model] >= 0.0 and tokens <= catalogue.context[model]
