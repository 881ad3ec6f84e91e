"""An artifact's files as they travel in one ConfigMap, and that ConfigMap."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bes_api.artifact import check_form
from bes_api.config_map import MAX_ARTIFACT_BYTES, PASSPORT, REPORT, WEIGHTS, data_digest, data_of
from bes_api.errors import BestEffortError
from bes_api.passport import Passport
from bes_api.report import EvaluationReport
from bes_api.training_order import ArtifactPlace


class ArtifactTooLargeError(BestEffortError):
    """More than a ConfigMap may hold."""


def pack(folder: Path, report: EvaluationReport) -> dict[str, bytes]:
    """The files of the artifact in ``folder`` with its report, by name.

    Figures per task are left out of the report where there is no room for them. Raises ArtifactTooLargeError,
    ArtifactError and ConfigurationError.
    """
    passport = Passport.read(folder / PASSPORT)
    files = {
        PASSPORT: passport.model_dump_json().encode(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
        REPORT: _packed(report),
    }
    if _size(files) > MAX_ARTIFACT_BYTES:
        files[REPORT] = _packed(_without_tasks(report))
    if _size(files) > MAX_ARTIFACT_BYTES:
        held = ", ".join(f"{name} {len(content):,}" for name, content in files.items())
        raise ArtifactTooLargeError(
            f"the artifact has {_size(files):,} bytes ({held}) and may have {MAX_ARTIFACT_BYTES:,}: "
            "train with fewer models and tasks, or with learner Evolution"
        )
    check_form(files, str(folder))
    return files


def config_map(files: Mapping[str, bytes], place: ArtifactPlace, owner: Mapping[str, str] | None) -> dict[str, Any]:
    """The immutable ConfigMap; its name says its digest, so the same artifact is never there twice.

    ``owner``: name and uid of the Job that it belongs to until somebody adopts it.
    """
    digest = data_digest(files).removeprefix("sha256:")
    metadata: dict[str, Any] = {
        "name": f"{place.prefix}-{digest[:16]}",
        "namespace": place.namespace,
        "labels": dict(place.labels),
    }
    if owner is not None:
        metadata["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": "Job", **owner}]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, **data_of(files)}


def _size(files: Mapping[str, bytes]) -> int:
    return sum(len(content) for content in files.values())


def _packed(report: EvaluationReport) -> bytes:
    return gzip.compress(report.model_dump_json(exclude_defaults=True).encode(), mtime=0)


def _without_tasks(report: EvaluationReport) -> EvaluationReport:
    shorn = [
        tuple(each.model_copy(update={"per_task": {}}) for each in outcomes)
        for outcomes in (report.outcomes, report.validation)
    ]
    return report.model_copy(update={"outcomes": shorn[0], "validation": shorn[1]})
