"""Errors of policies.

BestEffortError (bes_api)
└── ArtifactError               an artifact that cannot be used; the fallback rule serves
    ├── ArtifactUnreadableError     files missing, truncated or not what they claim to be
    └── ArtifactMisfitError         sound, but of another layout, catalogue or shape
"""

from bes_api.errors import BestEffortError


class ArtifactError(BestEffortError):
    """An artifact that cannot be used, with what to do about it."""


class ArtifactUnreadableError(ArtifactError):
    """Files are missing, truncated, damaged or not of this form."""


class ArtifactMisfitError(ArtifactError):
    """The artifact is sound but does not fit: layout, features, models, tasks, shapes or non-finite weights."""
