"""The form of an artifact, checked without an array library: what router, training and operator agree on.

Files by name: passport, weights (safetensors) and, where a gate is to judge, the gzipped report. Whether features and
layout are those of this release, only the router knows.
"""

import hashlib
import json
import math
import sys
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bes_api.config_map import PASSPORT, REPORT, WEIGHTS
from bes_api.errors import ArtifactMisfitError, ArtifactUnreadableError, ConfigurationError
from bes_api.handover import parse_document
from bes_api.passport import Passport
from bes_api.report import EvaluationReport
from bes_api.scenario import Scenario

Shape = tuple[int, ...]
MEND = "train again or restore the folder"
MAX_REPORT_BYTES = 64 * 1024 * 1024
"""Of a report that is unpacked; a well-packed file of 900 KiB could claim gigabytes."""
_LENGTH = 8  # bytes before the header that say how long it is
_BYTES = {"I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
_EXPONENT = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F80), "F64": (8, 0x7FF0)}
"""Bytes of a number, and the bits of its highest half-word that are all set in infinities and NaN."""


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: Shape
    begin: int
    end: int


def digest_of(content: bytes) -> str:
    """``sha256:...`` of bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def check_form(files: Mapping[str, bytes], source: str) -> Passport:
    """The passport of an artifact whose files are whole and fit each other; ``source`` names it in errors.

    Raises ArtifactUnreadableError (files, digest, form) or ArtifactMisfitError (kind of numbers, shapes, not finite).
    """
    for name in (PASSPORT, WEIGHTS):
        if name not in files:
            raise ArtifactUnreadableError(f"{source}: holds no {name}; {MEND}")
    try:
        passport = parse_document(Passport, files[PASSPORT], f"{source}/{PASSPORT}")
    except ConfigurationError as error:
        raise ArtifactUnreadableError(f"{error}; {MEND}") from error
    content, path = files[WEIGHTS], f"{source}/{WEIGHTS}"
    if digest_of(content) != passport.weights_sha256:
        raise ArtifactUnreadableError(f"{path}: its sha256 is not the passport's; the file was damaged or exchanged")
    try:
        tensors, numbers = _tensors(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactUnreadableError(f"{path}: is not a safetensors file: {error}") from error
    if strange := sorted(name for name, each in tensors.items() if each.dtype not in _BYTES | _EXPONENT):
        raise ArtifactMisfitError(f"{source}: tensors {strange} do not hold real numbers; train again")
    _check_shapes(source, passport, {name: each.shape for name, each in tensors.items()})
    for name, each in tensors.items():
        if not _finite(each, numbers):
            raise ArtifactMisfitError(f"{source}: tensor {name} holds numbers that are not finite; train again")
    return passport


def fits(passport: Passport, scenario: Scenario) -> None:
    """Raise ArtifactMisfitError where the artifact cannot decide for ``scenario``.

    The scorer reads models and tasks as features and fits any; the paper's network has one output per model.
    """
    if passport.kind == "Learned":
        return
    for what, have, want in (
        ("models", passport.models, tuple(model.name for model in scenario.models)),
        ("tasks", passport.tasks, tuple(task.name for task in scenario.tasks)),
    ):
        if have != want:
            raise ArtifactMisfitError(f"its {what} are {list(have)}, the service's {list(want)}; train again")


def report_in(files: Mapping[str, bytes], source: str) -> EvaluationReport:
    """The report among an artifact's files. Raises ArtifactUnreadableError."""
    if REPORT not in files:
        raise ArtifactUnreadableError(f"{source}: holds no {REPORT}, so nobody can judge it; train again")
    unpack = zlib.decompressobj(wbits=31)  # gzip
    try:
        text = unpack.decompress(files[REPORT], MAX_REPORT_BYTES)
    except zlib.error as error:
        raise ArtifactUnreadableError(f"{source}/{REPORT}: is not gzip: {error}; train again") from error
    if not unpack.eof:
        raise ArtifactUnreadableError(f"{source}/{REPORT}: is cut short, or larger than anything of ours; train again")
    try:
        return parse_document(EvaluationReport, text, f"{source}/{REPORT}")
    except ConfigurationError as error:
        raise ArtifactUnreadableError(f"{error}; train again") from error


def _tensors(content: bytes) -> tuple[dict[str, _Tensor], memoryview]:
    """By name, and the bytes that their offsets count in: https://github.com/huggingface/safetensors#format."""
    length = int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or length > len(content) - _LENGTH:
        raise ValueError("its header is longer than the file")
    header: dict[str, Any] = json.loads(content[_LENGTH : _LENGTH + length])
    header.pop("__metadata__", None)
    numbers = memoryview(content)[_LENGTH + length :]
    tensors = {name: _tensor(entry) for name, entry in header.items()}
    at = 0
    for name, each in sorted(tensors.items(), key=lambda item: item[1].begin):
        if each.begin != at or each.end < at:
            raise ValueError(f"tensor {name} does not begin where the one before ends")
        size = _EXPONENT[each.dtype][0] if each.dtype in _EXPONENT else _BYTES.get(each.dtype)
        if size is not None and each.end - each.begin != size * math.prod(each.shape):
            raise ValueError(f"tensor {name} has another length than its shape says")
        at = each.end
    if at != len(numbers):
        raise ValueError("its tensors end before or behind the file's end")
    return tensors, numbers


def _tensor(entry: Mapping[str, Any]) -> _Tensor:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if any(type(each) is not int or each < 0 for each in (begin, end, *shape)):
        raise ValueError("an offset or shape is no whole number")
    return _Tensor(str(entry["dtype"]), shape, begin, end)


def _finite(tensor: _Tensor, numbers: memoryview) -> bool:
    if tensor.dtype not in _EXPONENT:
        return True
    size, bits = _EXPONENT[tensor.dtype]
    words = array("H", numbers[tensor.begin : tensor.end].tobytes())
    if sys.byteorder == "big":
        words.byteswap()
    step = size // 2
    return all(word & bits != bits for word in words[step - 1 :: step])


def _check_shapes(source: str, passport: Passport, found: Mapping[str, Shape]) -> None:
    expected = _learned_shapes(passport, found) if passport.kind == "Learned" else _paper_shapes(passport, found)
    if set(found) != set(expected):
        raise ArtifactMisfitError(f"{source}: tensors {sorted(found)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ArtifactMisfitError(f"{source}: tensor {name} has shape {found[name]}, expected {shape}")


def _units(found: Mapping[str, Shape], name: str) -> int:
    return found[name][0] if len(found.get(name, ())) == 1 else 0


def _learned_shapes(passport: Passport, found: Mapping[str, Shape]) -> dict[str, Shape]:
    width, units = len(passport.feature_names), next(iter(found.get("hidden", ())), 0)
    return {"linear": (2, width), "hidden": (units, width), "bias": (units,), "out": (2, units)}


def _paper_shapes(passport: Passport, found: Mapping[str, Shape]) -> dict[str, Shape]:
    inputs, outputs = len(passport.feature_names), len(passport.models)
    first, second = _units(found, "bias1"), _units(found, "bias2")
    return {
        "weight1": (first, inputs),
        "bias1": (first,),
        "weight2": (second, first),
        "bias2": (second,),
        "weight3": (outputs, second),
        "bias3": (outputs,),
    }
