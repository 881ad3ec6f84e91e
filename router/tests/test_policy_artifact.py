"""Artifacts on disk: what is sound is read back exactly; any damage is a typed error, never another exception."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_scenarios import learned_artifact, opt_scenario, paper_artifact
from safetensors.numpy import save

from bes_api.artifact import digest_of
from bes_api.errors import ArtifactError, ArtifactMisfitError, ArtifactUnreadableError
from bes_api.router_config import LearnedPolicy, PaperPolicy
from bes_router.policy import artifact as module
from bes_router.policy.artifact import Artifact, fits, read_artifact, write_artifact
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.load import load_policy

SCENARIO = opt_scenario()
CATALOGUE = catalogue_of(SCENARIO)
LEARNED = learned_artifact(SCENARIO, 1)
PAPER = paper_artifact(SCENARIO, 1)
BOTH = pytest.mark.parametrize("artifact", [LEARNED, PAPER], ids=["learned", "paper"])


def write(folder: Path, artifact: Artifact) -> Path:
    write_artifact(folder, artifact.passport, artifact.tensors)
    return folder


def stamp(folder: Path, **fields: Any) -> None:
    """Change fields of the passport; the digest is made to fit the weights so that only the change is wrong."""
    document = json.loads((folder / "passport.json").read_text())
    document["weights_sha256"] = digest_of((folder / "weights.safetensors").read_bytes())
    document.update(fields)
    (folder / "passport.json").write_text(json.dumps(document))


def replace_tensors(folder: Path, **tensors: Any) -> None:
    """Other weights under a passport whose digest is right; None drops a tensor."""
    artifact = read_artifact(folder)
    merged = {name: tensor for name, tensor in {**artifact.tensors, **tensors}.items() if tensor is not None}
    (folder / "weights.safetensors").write_bytes(save(merged))
    stamp(folder)


@BOTH
def test_what_was_written_is_read_back_exactly(tmp_path: Path, artifact: Artifact) -> None:
    stamped = write_artifact(tmp_path / "a", artifact.passport, artifact.tensors)
    again = read_artifact(tmp_path / "a")
    assert again.passport == stamped
    assert again.tensors.keys() == artifact.tensors.keys()
    assert all((again.tensors[name] == artifact.tensors[name]).all() for name in artifact.tensors)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["passport.json", "weights.safetensors"]


@BOTH
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_or_missing_byte_of_the_weights_is_unreadable(
    tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, data: st.DataObject
) -> None:
    folder = write(tmp_path_factory.mktemp("artifact"), artifact)
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    path.write_bytes(content)
    with pytest.raises(ArtifactUnreadableError, match="sha256"):
        read_artifact(folder)
    shutil.rmtree(folder)


@BOTH
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_weights_whose_digest_fits_are_a_typed_error_or_sound(
    tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, data: st.DataObject
) -> None:
    """Whoever writes the passport can stamp any bytes: the parser behind the digest must hold by itself."""
    folder = write(tmp_path_factory.mktemp("artifact"), artifact)
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    head = min(len(content), 600)  # where names, types and offsets stand
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, head - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([0, 4, 8, 100, len(content)]))])
    stamp(folder)
    try:
        again = read_artifact(folder)
    except ArtifactError:
        pass
    else:
        assert all(np.isfinite(tensor).all() for tensor in again.tensors.values())
    shutil.rmtree(folder)


@BOTH
@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_passport_is_a_typed_error_or_still_valid(
    tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, at: float, byte: int, cut: bool
) -> None:
    folder = write(tmp_path_factory.mktemp("artifact"), artifact)
    path = folder / "passport.json"
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    content[place] = byte
    path.write_bytes(content[:place] if cut else content)
    with contextlib.suppress(ArtifactError):
        read_artifact(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "dtype", ["BF16", "F16", "F32", "F8_E4M3", "F8_E5M2", "F4", "BOOL", "I8", "U64", "C64", "C128", "X", ""]
)
def test_weights_of_any_other_type_are_numbers_or_a_typed_error(tmp_path: Path, dtype: str) -> None:
    folder = write(tmp_path, LEARNED)
    sizes = {"BF16": 2, "F16": 2, "F32": 4, "U64": 8, "C64": 8, "C128": 16}
    size = sizes.get(dtype, 1)
    shapes = {name: tensor.shape for name, tensor in LEARNED.tensors.items()}
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (folder / "weights.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(at))
    stamp(folder)
    with contextlib.suppress(ArtifactError):
        assert read_artifact(folder).tensors["linear"].tolist() == [[0.0] * 24] * 2


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("linear", np.zeros((2, 23)), "linear has shape"),
        ("linear", np.zeros(24), "linear has shape"),
        ("linear", np.full((2, 24), np.nan), "not finite"),
        ("out", np.array([[0.0] * 5, [1.0, 2.0, np.inf, 0.0, 0.0]]), "not finite"),
        ("out", np.zeros((5, 1)), "shape"),
        ("out", np.zeros((2, 4)), "shape"),
        ("hidden", np.zeros((24, 5)), "hidden has shape"),
        ("bias", np.float64(1.0), "bias has shape"),
        ("bias", None, "tensors"),
        ("surplus", np.zeros(3), "tensors"),
    ],
)
def test_weights_of_the_wrong_form_say_which(tmp_path: Path, name: str, tensor: Any, says: str) -> None:
    folder = write(tmp_path, LEARNED)
    replace_tensors(folder, **{name: None if tensor is None else np.asarray(tensor)})
    with pytest.raises(ArtifactMisfitError, match=says):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["weight1", "bias2", "weight3", "bias3"])
def test_the_papers_layers_must_fit_each_other(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, PAPER)
    replace_tensors(folder, **{name: PAPER.tensors[name][:-1]})
    with pytest.raises(ArtifactMisfitError, match="shape"):
        read_artifact(folder)


def test_whole_numbers_as_weights_are_taken_as_numbers(tmp_path: Path) -> None:
    folder = write(tmp_path, LEARNED)
    replace_tensors(folder, linear=np.ones((2, 24), dtype=np.int32))
    assert read_artifact(folder).tensors["linear"].dtype == np.float64


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"layout": "candidate/1"},
        {"layout": "paper/1"},
        {"kind": "Paper"},
        {"surplus": 1},
        {"base_parameters": [0.0] * 14},
        {"base_parameters": ["much"] * 16},
        {"guessed_base_parameters": []},
        {"feature_names": ["quality"]},
        {"feature_scale": [0.0] * 24},
        {"models": []},
    ],
    ids="-".join,
)
def test_a_passport_of_another_version_layout_or_form_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = write(tmp_path, LEARNED)
    stamp(folder, **fields)
    with pytest.raises(ArtifactError):
        read_artifact(folder)


def test_features_in_another_order_are_another_layout(tmp_path: Path) -> None:
    folder = write(tmp_path, LEARNED)
    stamp(folder, feature_names=list(reversed(LEARNED.passport.feature_names)))
    with pytest.raises(ArtifactMisfitError, match="features"):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "passport.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, LEARNED)
    (folder / name).unlink()
    with pytest.raises(ArtifactUnreadableError, match=name):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "passport.json"])
def test_a_folder_where_a_file_should_be_is_unreadable(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, LEARNED)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ArtifactUnreadableError):
        read_artifact(folder)


def test_no_folder_at_all_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadableError):
        read_artifact(tmp_path / "nowhere")


def test_files_beyond_the_size_of_a_config_map_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, LEARNED)
    monkeypatch.setattr(module, "MAX_ARTIFACT_BYTES", 100)
    with pytest.raises(ArtifactUnreadableError, match="larger than 100"):
        read_artifact(folder)


def test_the_papers_network_fits_only_its_own_models_and_tasks() -> None:
    other = SCENARIO.model_copy(update={"models": SCENARIO.models[:2]})
    fits(PAPER, SCENARIO)
    with pytest.raises(ArtifactMisfitError, match="models"):
        fits(PAPER, other)
    with pytest.raises(ArtifactMisfitError, match="tasks"):
        fits(PAPER, SCENARIO.model_copy(update={"tasks": SCENARIO.tasks[::-1]}))


def test_the_scorer_fits_any_catalogue() -> None:
    fits(LEARNED, SCENARIO.model_copy(update={"models": SCENARIO.models[:2]}))


def test_an_artifact_of_the_other_kind_is_a_misfit(tmp_path: Path) -> None:
    learned, paper = write(tmp_path / "learned", LEARNED), write(tmp_path / "paper", PAPER)
    with pytest.raises(ArtifactMisfitError, match="kind Learned"):
        load_policy(PaperPolicy(artifact=learned), SCENARIO, CATALOGUE)
    with pytest.raises(ArtifactMisfitError, match="kind Paper"):
        load_policy(LearnedPolicy(artifact=paper), SCENARIO, CATALOGUE)


def test_the_passport_is_written_last_so_that_a_reader_never_meets_half_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(type(LEARNED.passport), "write", full)
    with pytest.raises(OSError, match="disk full"):
        write_artifact(tmp_path, LEARNED.passport, LEARNED.tensors)
    with pytest.raises(ArtifactUnreadableError, match="passport"):
        read_artifact(tmp_path)
