"""How often the API server is asked, and how long it may take, in seconds."""

import random
from collections.abc import Callable
from dataclasses import dataclass

MOST_ASKED_SECONDS = 60.0
"""A server that asks to be left alone for longer is asked again after so long."""


@dataclass(frozen=True)
class Pace:
    """See the module."""

    request: float = 20.0
    watch: int = 60
    """Of one watch: the server ends it then, and the next one goes on where it ended."""
    silence: float = 15.0
    """A watch that lasts so much longer than was agreed has lost its server."""
    relist: float = 600.0
    """After so long everything is listed again, whatever the watch said."""
    first_pause: float = 0.5
    """After a failure; twice as long with every further one."""
    longest_pause: float = 10.0
    settled: float = 5.0
    """A server that is heard after so long was asked with success, however that ended."""
    jitter: Callable[[], float] = random.random
    """0..1; pauses are cut by up to half, so that routers do not come all at once."""

    def pause(self, failures: int, asked: float) -> float:
        """How long to wait after so many turns in a row that ended early; ``asked``: by the server."""
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30)) if failures else 0.0
        return max(min(MOST_ASKED_SECONDS, asked), longest * (1.0 - 0.5 * self.jitter()))
