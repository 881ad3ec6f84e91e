"""What can go wrong between resource, operator and API server, as `reconcile` needs to tell it apart.

BestEffortError
└── OperatorError
    ├── ClusterError                a call to the API server that did not do what was asked; a later pass tries again
    │   ├── Conflict                409: somebody else wrote, or holds the name, or is being deleted
    │   │   └── Leaving             what an earlier service of this name had is still there
    │   ├── Denied                  401 or 403: no rights (also for a moment after the API server restarts)
    │   ├── Refused                 400, 413, 422, or 403 by a quota: the API server will not have this object
    │   ├── Absent                  404 while writing: namespace or kind is not there
    │   ├── Busy                    429: asked to wait, with for how long
    │   ├── Unavailable             5xx, or no connection
    │   └── TimedOut                no answer in time: done or not, nobody knows
    ├── NameTaken                   objects with children's names are somebody else's
    ├── NotLeading                  a write was asked for when this operator may not write (any more)
    └── Refusal                     the service asks for what cannot be had; a condition says which, and the mend

"Not found" while reading is None, and while deleting it is done.
"""

from collections.abc import Sequence

from bes_api.errors import BestEffortError
from bes_api.service_status import Reason
from bes_operator.manifest import Key


class OperatorError(BestEffortError):
    """Root of what this package raises on purpose."""


class ClusterError(OperatorError):
    """See the module. ``what`` is the call, as a person says it: "apply Deployment default/opt-router"."""

    def __init__(self, what: str, message: str, retry_after_seconds: float | None = None) -> None:
        self.what = what
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        """What the API server asked for; None: it said nothing."""
        super().__init__(f"{what}: {message}")

    @property
    def reason(self) -> str:
        """Short and CamelCase, for conditions and metrics."""
        return type(self).__name__


class Conflict(ClusterError):  # noqa: N818 - the tree's names are the field's own
    """409."""


class Leaving(Conflict):
    """See the tree."""


class Denied(ClusterError):  # noqa: N818 - as above
    """401 or 403."""


class Refused(ClusterError):  # noqa: N818 - as above
    """400, 413, 422, or 403 by admission: it has nothing to do with the operator's rights."""


class Absent(ClusterError):  # noqa: N818 - as above
    """404 while writing."""


class Busy(ClusterError):  # noqa: N818 - as above
    """429."""


class Unavailable(ClusterError):  # noqa: N818 - as above
    """5xx, an answer that is no JSON, or no connection."""


class TimedOut(ClusterError):  # noqa: N818 - as above
    """No answer in time."""


class NameTaken(OperatorError):  # noqa: N818 - as above
    """See the tree."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        super().__init__(f"not made by this operator, and therefore left alone: {', '.join(map(str, keys))}")


class NotLeading(OperatorError):  # noqa: N818 - as above
    """This operator lost its Lease, or is about to: it must not write."""


class Refusal(OperatorError):  # noqa: N818 - as above
    """See the module. What served before goes on as it is."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(message)
