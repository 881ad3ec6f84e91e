"""Tasks: what an answer is worth, by which model and until when."""

from typing import Literal

from pydantic import Field

from bes_api.quantities import DecimalString, DottedName, Duration
from bes_api.service.part import Part, Tokens


class HardDeadline(Part):
    """Full quality until the instant, nothing after it."""

    within: Duration
    """Time from the request's last byte."""


class SoftDeadline(Part):
    """Full quality until fullUntil, then less, and nothing from zeroFrom."""

    full_until: Duration
    """Time from the request's last byte."""
    zero_from: Duration
    """Time from the request's last byte, after fullUntil."""
    shape: Literal["Linear"] = "Linear"
    """How worth falls between the two."""


class Deadline(Part):
    """When an answer is worth how much: exactly one of hard and soft."""

    hard: HardDeadline | None = None
    """Full quality until an instant, nothing after it."""
    soft: SoftDeadline | None = None
    """Worth that falls."""
    measure: Literal["Completion", "FirstToken"] = "Completion"
    """What must come in time: the answer's last byte, or the first one of its body."""
    on_miss: Literal["Finish", "Abort"] = "Finish"
    """Abort: once nothing can be earned any more the engine stops working on it, and the client gets 504 (a stream that
    has begun: an error event). With FirstToken, only while no token has come."""


class TypicalTokens(Part):
    """Lengths of a typical request, for training and prediction."""

    prompt: Tokens
    """Tokens of its prompt."""
    output: Tokens
    """Tokens of its answer."""


class Task(Part):
    """One task: a virtual model to clients."""

    name: DottedName
    """Its name, which clients write as the model."""
    deadline: Deadline
    """When an answer is worth how much."""
    quality: dict[DottedName, DecimalString] = Field(min_length=1, max_length=64)
    """Quality in 0..1 per model; a model that is absent never answers this task."""
    tokens: TypicalTokens
    """Lengths of a typical request."""
