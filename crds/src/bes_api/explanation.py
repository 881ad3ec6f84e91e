"""Why a request went where it went: one decision, explained afterwards from what it was taken from. Never a prompt."""

from bes_api.scenario import Frozen


class EngineWeighed(Frozen):
    """One eligible model as the decision saw it, by the engine that the policy would have taken of it."""

    model: str
    backend: str
    """MODEL/REPLICA."""
    chosen: bool
    score: float | None
    """The policy's own figure, the highest wins; what it means is the policy's business. None: it does not say."""
    quality: float
    """What an answer in time is worth for the task."""
    load: float
    """Requests in flight there, as estimated."""
    predicted_finish_seconds: float
    """From the decision to the answer's last byte."""
    slack_seconds: float
    """From the predicted finish to the instant from which the answer is worth nothing; negative: too late."""
    expected_reward: float
    """Quality times the share of it that an answer at the predicted finish earns."""


class Explanation(Frozen):
    """One decision. Seconds are relative to the request's arrival unless they are called an age."""

    id: str
    at: float
    """Unix time of the decision."""
    task: str
    policy: str
    model: str | None
    """The chosen one; None: no model was eligible."""
    backend: str | None
    pinned: str | None
    """The model that the client asked for."""
    prompt_tokens: int
    """As estimated; several prompts and choices are counted as one request that costs about as much."""
    output_tokens: int
    full_until_seconds: float
    zero_from_seconds: float
    rate: float
    """Requests per second at the whole service, averaged over 2 s."""
    figures_source: str
    figures_age_seconds: float | None
    """None: no load figures had come; the decision was made on own requests in flight alone."""
    load_guessed: float
    """0..1: how much of the load was guessed, because figures are old and other routers send too."""
    retried_from: str | None
    """The decision whose backend had failed this request."""
    weighed: tuple[EngineWeighed, ...]
    """Every eligible model, the best first."""
