"""What an answer is worth, once, for router, simulator and replay."""

from bes_router.policy.layout import Catalogue, LoadView, RoutingRequest


def reward_share(elapsed: float, full_until: float, zero_from: float) -> float:
    """Share of the quality that an answer after ``elapsed`` seconds earns: 1, then linear to 0 (equal bounds: hard)."""
    if elapsed <= full_until:
        return 1.0
    if elapsed >= zero_from:
        return 0.0
    return (zero_from - elapsed) / (zero_from - full_until)


def eligible(catalogue: Catalogue, view: LoadView, request: RoutingRequest, model: int) -> bool:
    """Whether a model may serve a request: a ready backend, a stated quality, room in its context, no other pinned."""
    return (
        view.ready_count[model] > 0
        and catalogue.quality[request.task * len(catalogue.context) + model] >= 0.0
        and request.prompt_tokens + request.output_tokens <= catalogue.context[model]
        and (request.pinned < 0 or request.pinned == model)
    )
