"""What can go wrong in the lab, below the root that `bes` turns into one line.

BestEffortError
├── TraceError      a trace, clip or mix that cannot be read
├── TargetError     an URL that cannot be replayed to, or arguments that do not fit together
├── ProfileError    an engine that cannot be profiled, or arguments with which nothing could be fitted
├── StartError      a process of a local run ended or was not ready in time; carries the tail of its log
├── ChildError      a process of a local run ended while it served; carries the tail of its log
└── ClusterError    a cluster that cannot be started, or what it needs of this machine and is not there
"""

from bes_api.errors import BestEffortError


class TraceError(BestEffortError):
    """A trace, clip or mix that cannot be read."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")


class TargetError(BestEffortError):
    """An URL that cannot be replayed to, or arguments that do not fit together."""


class ProfileError(BestEffortError):
    """An engine that cannot be profiled, or arguments with which nothing could be fitted."""


class StartError(BestEffortError):
    """A process ended before it was ready, or was not ready in time."""

    exit_code = 4


class ChildError(BestEffortError):
    """A process ended while the service ran."""

    exit_code = 4


class ClusterError(BestEffortError):
    """A cluster that cannot be started or asked, or what it needs of this machine."""

    exit_code = 4
