"""An artifact's form without an array library: what is whole passes, whatever is not is one typed error."""

import contextlib
import gzip
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_api.artifact import MAX_REPORT_BYTES, check_form, digest_of, report_in
from bes_api.config_map import PASSPORT, REPORT, WEIGHTS, data_digest, data_of, files_in
from bes_api.errors import ArtifactError, ArtifactMisfitError, ArtifactUnreadableError, ConfigurationError
from bes_api.passport import Passport, TrainingSummary

FEATURES = ("one", "two")
SHAPES = {"linear": (2, 2), "hidden": (3, 2), "bias": (3,), "out": (2, 3)}


def tensors(**changes: Any) -> dict[str, Any]:
    """Entries of the header, one behind the other, and the numbers."""
    at, header = 0, {}
    for name, shape in SHAPES.items():
        size = 8 * (shape[0] * (shape[1] if len(shape) > 1 else 1))
        header[name] = {"dtype": "F64", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    for name, fields in changes.items():
        header[name] = {**header.get(name, {}), **fields}
    return header


def written(header: Any, numbers: bytes | None = None) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + (struct.pack("<19d", *range(19)) if numbers is None else numbers)


def files(content: bytes, **changes: Any) -> dict[str, bytes]:
    values: dict[str, Any] = {
        "kind": "Learned",
        "layout": "candidate/2",
        "feature_names": FEATURES,
        "feature_offset": (0.0, 0.0),
        "feature_scale": (1.0, 1.0),
        "models": ("small", "large"),
        "tasks": ("qa",),
        "scenario_hash": "sha256:" + "1" * 64,
        "seeds": (1,),
        "weights_sha256": digest_of(content),
        "training": TrainingSummary(learner="Evolution", decisions=1, seconds=1.0, seed=1),
    }
    return {PASSPORT: Passport(**(values | changes)).model_dump_json().encode(), WEIGHTS: content}


def test_what_is_whole_passes() -> None:
    assert check_form(files(written({"__metadata__": {"a": "b"}, **tensors()})), "x").kind == "Learned"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header is longer"),
        (b"\xff" * 20, "header is longer"),
        ((5).to_bytes(8, "little") + b"{[(", "header is longer"),
        ((3).to_bytes(8, "little") + b"{[(", "safetensors"),
        (written([]), "safetensors"),
        (written({"linear": 3}), "safetensors"),
        (written({"linear": {}}), "safetensors"),
        (written(tensors(linear={"data_offsets": [0, 15]})), "begin|length"),
        (written(tensors(linear={"data_offsets": [True, 16]})), "whole number"),
        (written(tensors(linear={"shape": [-2]})), "whole number"),
        (written(tensors(bias={"data_offsets": [0, 24]})), "begin where"),
        (written(tensors(), b"\0" * 111), "end before or behind"),
        (written(tensors(), b"\0" * 113), "end before or behind"),
    ],
)
def test_a_file_of_another_form_is_unreadable(content: bytes, says: str) -> None:
    with pytest.raises(ArtifactUnreadableError, match=says):
        check_form(files(content), "x")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_a_misfit(number: float) -> None:
    for at in (0, 18):
        values = [1.0] * 19
        values[at] = number
        with pytest.raises(ArtifactMisfitError, match="not finite"):
            check_form(files(written(tensors(), struct.pack("<19d", *values))), "x")


@pytest.mark.parametrize(("dtype", "code"), [("F32", "f"), ("F16", "e")])
def test_short_numbers_are_looked_at_as_well(dtype: str, code: str) -> None:
    size = struct.calcsize(code)
    header = tensors()
    for entry in header.values():
        entry |= {"dtype": dtype, "data_offsets": [each * size // 8 for each in entry["data_offsets"]]}
    assert check_form(files(written(header, struct.pack(f"<19{code}", *range(19)))), "x")
    with pytest.raises(ArtifactMisfitError, match="not finite"):
        check_form(files(written(header, struct.pack(f"<19{code}", *range(18), float("nan")))), "x")


def test_another_kind_of_number_and_another_shape_are_misfits() -> None:
    with pytest.raises(ArtifactMisfitError, match="real numbers"):
        check_form(files(written(tensors(linear={"dtype": "C64"}))), "x")
    with pytest.raises(ArtifactMisfitError, match="shape"):
        check_form(files(written(tensors(hidden={"shape": [2, 3]}))), "x")
    header = tensors()
    header["strange"] = header.pop("out")
    with pytest.raises(ArtifactMisfitError, match="expected"):
        check_form(files(written(header)), "x")


@given(st.binary(max_size=300))
def test_any_bytes_are_an_artifact_or_a_typed_error(content: bytes) -> None:
    for damaged in (content, written(tensors())[: len(content)] + content):
        with contextlib.suppress(ArtifactError):
            check_form(files(damaged), "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_a_typed_error(content: bytes) -> None:
    for packed in (content, gzip.compress(content, mtime=0)):
        with pytest.raises(ArtifactUnreadableError):
            report_in({REPORT: packed}, "x")


def test_a_report_that_unpacks_to_more_than_anything_of_ours_is_refused() -> None:
    with pytest.raises(ArtifactUnreadableError, match="larger than anything"):
        report_in({REPORT: gzip.compress(bytes(MAX_REPORT_BYTES + 1), mtime=0)}, "x")


@given(st.dictionaries(st.sampled_from(["a.json", "b", "c.bin"]), st.binary(max_size=20)))
def test_files_come_back_from_a_config_map_as_they_were(found: dict[str, bytes]) -> None:
    found = {name: content if name != "a.json" else content.hex().encode() for name, content in found.items()}
    manifest = json.loads(json.dumps(data_of(found)))
    assert files_in(manifest) == found
    assert data_digest(files_in(manifest)) == data_digest(found)


def test_binary_data_that_is_no_base64_is_named() -> None:
    with pytest.raises(ConfigurationError, match="weights"):
        files_in({"binaryData": {"weights": "!"}})
