"""Why a request is not taken here and now, as the client reads it."""

from bes_router.errors import RETRY_AFTER_SECONDS, Reason, RefusedRequestError
from bes_router.policy.layout import Catalogue, RoutingRequest


def overloaded(limit: int) -> RefusedRequestError:
    """429: ``limit`` requests are held already."""
    return _later(429, Reason.OVERLOADED, f"{limit} requests are in flight here; try again")


def nothing_eligible(catalogue: Catalogue, routing: RoutingRequest) -> RefusedRequestError:
    """400 where no context would ever hold it, 503 where backends are missing."""
    task, models = routing.task, len(catalogue.context)
    allowed = range(models) if routing.pinned < 0 else (routing.pinned,)
    longest = max((catalogue.context[m] for m in allowed if catalogue.quality[task * models + m] >= 0.0), default=0)
    tokens = routing.prompt_tokens + routing.output_tokens
    if tokens > longest:
        return RefusedRequestError(
            400,
            Reason.PROMPT_TOO_LONG,
            f"prompt and answer need about {tokens} tokens; the longest context for this is {longest}: send less, "
            "or ask for fewer tokens",
            code="context_length_exceeded",
            param="prompt",
        )
    return _later(503, Reason.NO_BACKEND, "no engine that could serve this is ready; try again")


def _later(status: int, reason: Reason, message: str) -> RefusedRequestError:
    return RefusedRequestError(status, reason, message, code=reason, retry_after=RETRY_AFTER_SECONDS)
