"""An artifact: `weights.safetensors` and `passport.json` of a folder or ConfigMap, checked before anything uses it."""

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

from bes_api import artifact as form
from bes_api.artifact import MEND, check_form, digest_of
from bes_api.config_map import MAX_ARTIFACT_BYTES, PASSPORT, WEIGHTS, read_files
from bes_api.errors import ArtifactMisfitError, ArtifactUnreadableError, ConfigurationError
from bes_api.output import whole_file
from bes_api.passport import Passport
from bes_api.scenario import Scenario
from bes_router.policy import candidates, paper

Float = NDArray[np.float64]
LEARNED_TENSORS = ("linear", "hidden", "bias", "out")
PAPER_TENSORS = ("weight1", "bias1", "weight2", "bias2", "weight3", "bias3")


@dataclass(frozen=True)
class Artifact:
    """Checked weights with their passport."""

    passport: Passport
    tensors: Mapping[str, Float]


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
        raise ArtifactUnreadableError(f"{error}; {MEND}") from error
    return parse_artifact(files, str(folder))


def parse_artifact(files: Mapping[str, bytes], source: str) -> Artifact:
    """Check an artifact given as its files by name; ``source`` names it in errors.

    Raises ArtifactUnreadableError (files, digest) or ArtifactMisfitError (layout, shapes, non-finite weights).
    """
    passport = check_form(files, source)
    try:
        raw = load_tensors(files[WEIGHTS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactUnreadableError(f"{source}/{WEIGHTS}: is not a safetensors file: {error}") from error
    tensors = {name: np.ascontiguousarray(tensor, dtype=np.float64) for name, tensor in raw.items()}
    _check(source, passport)
    return Artifact(passport, MappingProxyType(tensors))


def fits(artifact: Artifact, scenario: Scenario) -> None:
    """Raise ArtifactMisfitError where the artifact cannot decide for ``scenario``."""
    form.fits(artifact.passport, scenario)


def _check(source: str, passport: Passport) -> None:
    """What only the policies' own code can tell."""
    if passport.kind == "Learned":
        if passport.feature_names != candidates.FEATURES:
            raise ArtifactMisfitError(f"{source}: features are not {candidates.LAYOUT}'s; train again")
        for name in ("base_parameters", "guessed_base_parameters"):
            if len(getattr(passport, name)) != candidates.BASE_PARAMETERS:
                raise ArtifactMisfitError(f"{source}: {name} must be {candidates.BASE_PARAMETERS} numbers")
    elif len(passport.feature_names) != len(passport.tasks) + len(passport.models) + 1:
        raise ArtifactMisfitError(f"{source}: layout {paper.LAYOUT} has tasks + models + 1 features")
