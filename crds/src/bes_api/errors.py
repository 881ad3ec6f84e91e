"""Errors that a person can mend; every room hangs its own below the root, and `bes` turns them into one line each.

BestEffortError                 exit code 2
├── DocumentError               a resource file: every problem with file, line, field and mend
├── ConfigurationError          a file that components hand each other (router configuration, passport, report)
├── ScenarioError               a valid resource from which no scenario can be made
├── ArtifactError               an artifact that cannot be used; what served, or the fallback rule, goes on
│   ├── ArtifactUnreadableError     files missing, truncated or not what they claim to be
│   └── ArtifactMisfitError         sound, but of another layout, catalogue or shape
├── OutputError                 a file or folder that cannot be written: not allowed, no space, no folder
└── MissingExtraError           exit code 3: the part of the distribution that does this is not installed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class BestEffortError(Exception):
    """Root of what our code raises on purpose; its text is complete without a traceback."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a document: where (field path and line, if it has one), what, and how to mend it."""

    path: str
    message: str
    line: int | None = None
    rule: str | None = None
    """Id in the table of rules; None when the form itself is wrong."""


class DocumentError(BestEffortError):
    """Everything that is wrong in one file, a line per problem: ``FILE:LINE: FIELD: MESSAGE``."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self._line(problem) for problem in self.problems))

    def _line(self, problem: Problem) -> str:
        where = self.source if problem.line is None else f"{self.source}:{problem.line}"
        return ": ".join(part for part in (where, problem.path, problem.message) if part)


class ConfigurationError(BestEffortError):
    """A document between components that cannot be read, is of another version or contradicts itself."""


class ScenarioError(BestEffortError):
    """The resource keeps every rule, but what it names (a profile) does not fit it or is not there."""


class ArtifactError(BestEffortError):
    """An artifact that cannot be used, with what to do about it."""

    word: ClassVar[str] = "unusable"
    """The reason in one word, as the answers' x-bes-policy says it."""


class ArtifactUnreadableError(ArtifactError):
    """Files are missing, truncated, damaged or not of this form."""

    word = "unreadable"


class ArtifactMisfitError(ArtifactError):
    """The artifact is sound but does not fit: layout, features, models, tasks, shapes or non-finite weights."""

    word = "misfit"


class OutputError(BestEffortError):
    """A file or folder that the caller named cannot be written."""


class MissingExtraError(BestEffortError):
    """A third-party package that a subcommand needs is absent."""

    exit_code = 3
