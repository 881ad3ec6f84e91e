"""Errors of policies.

BestEffortError (bes_api)
└── ArtifactError               an artifact that cannot be used; the fallback rule serves
    ├── ArtifactAbsentError         nothing has been delivered yet
    ├── ArtifactUnreadableError     files missing, truncated or not what they claim to be
    ├── ArtifactMisfitError         sound, but of another layout, catalogue or shape
    └── OwnPolicyError              a policy of somebody's own: not installed, or it cannot be made
"""

from typing import ClassVar

from bes_api.errors import BestEffortError


class ArtifactError(BestEffortError):
    """An artifact that cannot be used, with what to do about it."""

    word: ClassVar[str] = "unusable"
    """The reason in one word, as the answers' x-bes-policy says it."""


class ArtifactAbsentError(ArtifactError):
    """There is no artifact."""

    word = "absent"


class ArtifactUnreadableError(ArtifactError):
    """Files are missing, truncated, damaged or not of this form."""

    word = "unreadable"


class ArtifactMisfitError(ArtifactError):
    """The artifact is sound but does not fit: layout, features, models, tasks, shapes or non-finite weights."""

    word = "misfit"


class OwnPolicyError(ArtifactError):
    """A policy of somebody's own that is not installed, or whose package fails."""

    word = "own-policy"
