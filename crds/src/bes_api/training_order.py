"""What a training Job is told, in one document: what to learn for, how, and where the artifact goes."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from bes_api.handover import dump_document, load_document
from bes_api.scenario import Frozen, PositiveInt, Scenario
from bes_api.service import Learner

ORDER = "order.json"
"""Its key in the Job's ConfigMap."""


class ArtifactPlace(Frozen):
    """Where the artifact is put: a ConfigMap `<prefix>-<16 hex of its digest>`."""

    namespace: str
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=200)]
    labels: dict[str, str] = Field(default_factory=dict)


class TrainingOrder(Frozen):
    """See the module."""

    version: Literal[1] = 1
    scenario: Scenario
    learner: Learner
    decisions: PositiveInt
    """Of the DQN; evolution and every opponent simulate 32 times as many."""
    seeds: PositiveInt
    artifact: ArtifactPlace

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read JSON. Raises ConfigurationError with file, field and expectation."""
        return load_document(cls, path)

    def write(self, path: Path) -> None:
        """Write JSON, which ``read`` understands."""
        dump_document(self, path)
