"""What a person would want to know of a service: one value, whoever finds it out. `events` writes them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One thing that happened to a service."""

    type: Literal["Normal", "Warning"]
    reason: str
    """CamelCase, one word."""
    message: str
