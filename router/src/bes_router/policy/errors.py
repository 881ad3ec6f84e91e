"""Errors of policies, below what bes_api says of artifacts.

BestEffortError (bes_api)
└── ArtifactError (bes_api)
    ├── ArtifactAbsentError         nothing has been delivered yet
    └── OwnPolicyError              a policy of somebody's own: not installed, or it cannot be made
"""

from bes_api.errors import ArtifactError


class ArtifactAbsentError(ArtifactError):
    """There is no artifact."""

    word = "absent"


class OwnPolicyError(ArtifactError):
    """A policy of somebody's own that is not installed, or whose package fails."""

    word = "own-policy"
