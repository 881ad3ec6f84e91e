"""What one kind of engine adds to a model's Deployment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EnginePart:
    """See the module.

    Requests in flight end before the process is asked to: its SIGTERM comes only when routers know that it leaves and
    what they had sent has been answered, because not every release of every engine answers it after SIGTERM.
    """

    port: int
    container: Mapping[str, Any]
    start_seconds: int
    """So long a container may take until it serves."""
    drain_seconds: int
    """From when nobody sends anything any more until SIGTERM: long enough for nearly every answer."""
    stop_seconds: int
    """From SIGTERM until the process is killed."""
    pod: Mapping[str, Any] = field(default_factory=dict)
    """Members of the pod's spec."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the pod; one that changes rolls the engines."""
