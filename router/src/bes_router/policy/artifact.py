"""An artifact: `weights.safetensors` and `passport.json` of a folder or ConfigMap, checked before anything uses it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from bes_api.config_map import MAX_ARTIFACT_BYTES, PASSPORT, WEIGHTS, read_files
from bes_api.errors import ConfigurationError
from bes_api.handover import parse_document
from bes_api.output import whole_file
from bes_api.passport import Passport
from bes_api.scenario import Scenario
from bes_router.policy import candidates, paper
from bes_router.policy.errors import ArtifactMisfitError, ArtifactUnreadableError

Float = NDArray[np.float64]
LEARNED_TENSORS = ("linear", "hidden", "bias", "out")
PAPER_TENSORS = ("weight1", "bias1", "weight2", "bias2", "weight3", "bias3")


@dataclass(frozen=True)
class Artifact:
    """Checked weights with their passport."""

    passport: Passport
    tensors: Mapping[str, Float]


def digest_of(content: bytes) -> str:
    """``sha256:...`` of bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write_artifact(folder: Path, passport: Passport, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> Passport:
    """Write both files (passport last) and return the passport with the weights' digest in it. Raises OutputError."""
    content = save_tensors({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    with whole_file(folder / WEIGHTS) as part:
        part.write_bytes(content)
    stamped = passport.model_copy(update={"weights_sha256": digest_of(content)})
    stamped.write(folder / PASSPORT)
    return stamped


def read_artifact(folder: Path) -> Artifact:
    """Read and check an artifact by itself. Raises as `parse_artifact` does."""
    try:
        files = read_files(folder, MAX_ARTIFACT_BYTES)
    except ConfigurationError as error:
        raise ArtifactUnreadableError(f"{error}; train again or restore the folder") from error
    return parse_artifact(files, str(folder))


def parse_artifact(files: Mapping[str, bytes], source: str) -> Artifact:
    """Check an artifact given as its files by name; ``source`` names it in errors.

    Raises ArtifactUnreadableError (files, digest) or ArtifactMisfitError (layout, shapes, non-finite weights).
    """
    for name in (PASSPORT, WEIGHTS):
        if name not in files:
            raise ArtifactUnreadableError(f"{source}: holds no {name}; train again or restore the folder")
    try:
        passport = parse_document(Passport, files[PASSPORT], f"{source}/{PASSPORT}")
    except ConfigurationError as error:
        raise ArtifactUnreadableError(f"{error}; train again or restore the folder") from error
    content, path = files[WEIGHTS], f"{source}/{WEIGHTS}"
    if digest_of(content) != passport.weights_sha256:
        raise ArtifactUnreadableError(f"{path}: its sha256 is not the passport's; the file was damaged or exchanged")
    try:
        raw = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactUnreadableError(f"{path}: is not a safetensors file: {error}") from error
    if strange := sorted(name for name, tensor in raw.items() if tensor.dtype.kind not in "fiu"):
        raise ArtifactMisfitError(f"{source}: tensors {strange} do not hold real numbers; train again")
    tensors = {name: np.ascontiguousarray(tensor, dtype=np.float64) for name, tensor in raw.items()}
    _check(source, passport, tensors)
    return Artifact(passport, MappingProxyType(tensors))


def fits(artifact: Artifact, scenario: Scenario) -> None:
    """Raise ArtifactMisfitError where the artifact cannot decide for ``scenario``.

    The scorer reads models and tasks as features and fits any; the paper's network has one output per model.
    """
    if artifact.passport.kind == "Learned":
        return
    for what, have, want in (
        ("models", artifact.passport.models, tuple(model.name for model in scenario.models)),
        ("tasks", artifact.passport.tasks, tuple(task.name for task in scenario.tasks)),
    ):
        if have != want:
            raise ArtifactMisfitError(f"its {what} are {list(have)}, the service's {list(want)}; train again")


def _check(source: str, passport: Passport, tensors: Mapping[str, Float]) -> None:
    expected = _learned_shapes(tensors) if passport.kind == "Learned" else _paper_shapes(passport, tensors)
    if set(tensors) != set(expected):
        raise ArtifactMisfitError(f"{source}: tensors {sorted(tensors)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ArtifactMisfitError(f"{source}: tensor {name} has shape {tensors[name].shape}, expected {shape}")
        if not np.isfinite(tensors[name]).all():
            raise ArtifactMisfitError(f"{source}: tensor {name} holds numbers that are not finite; train again")
    if passport.kind == "Learned":
        if passport.feature_names != candidates.FEATURES:
            raise ArtifactMisfitError(f"{source}: features are not {candidates.LAYOUT}'s; train again")
        if len(passport.base_parameters) != candidates.BASE_PARAMETERS:
            raise ArtifactMisfitError(f"{source}: base_parameters must be {candidates.BASE_PARAMETERS} numbers")
    elif len(passport.feature_names) != len(passport.tasks) + len(passport.models) + 1:
        raise ArtifactMisfitError(f"{source}: layout {paper.LAYOUT} has tasks + models + 1 features")


def _units(tensors: Mapping[str, Float], name: str) -> int:
    return len(tensors[name]) if name in tensors and tensors[name].ndim == 1 else 0


def _learned_shapes(tensors: Mapping[str, Float]) -> dict[str, tuple[int, ...]]:
    width, units = candidates.WIDTH, _units(tensors, "out")
    return {"linear": (width,), "hidden": (units, width), "bias": (units,), "out": (units,)}


def _paper_shapes(passport: Passport, tensors: Mapping[str, Float]) -> dict[str, tuple[int, ...]]:
    inputs, outputs = len(passport.feature_names), len(passport.models)
    first, second = _units(tensors, "bias1"), _units(tensors, "bias2")
    return {
        "weight1": (first, inputs),
        "bias1": (first,),
        "weight2": (second, first),
        "bias2": (second,),
        "weight3": (outputs, second),
        "bias3": (outputs,),
    }
