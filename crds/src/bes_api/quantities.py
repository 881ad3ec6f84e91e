"""Kubernetes' own forms for durations, fractions and names, as pydantic types whose JSON schema is a plain string."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"  # GEP-2257
DECIMAL_PATTERN = r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"  # RFC 1123
DNS_SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
SERVICE_NAME_PATTERN = r"^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$"  # DNS-1035, with room for the names of children
WHOLE_NUMBER_PATTERN = r"^[1-9][0-9]{0,9}$"
DEVICE_CLASS_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$"
MODEL_ID_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
LABEL_NAME_PATTERN = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
LABEL_KEY_PATTERN = (  # of Kubernetes: an optional prefix, then at most 63 characters
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
VARIABLE_NAME_PATTERN = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
IMAGE_PATTERN = r"^[A-Za-z0-9][-A-Za-z0-9._/:]*(@sha256:[0-9a-f]{64})?$"
REVISION_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?$"
QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?([KMGTPE]i|[numkMGTPE]|[eE][0-9]{1,2})?$"

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_DECIMAL = re.compile(DECIMAL_PATTERN, re.ASCII)
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION_END = timedelta(hours=100_000)
_QUANTITY = re.compile(r"([0-9.]+)(?:([numkKMGTPEi]*)|[eE]([0-9]+))", re.ASCII)
_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse_duration(text: str) -> timedelta:
    """Read a GEP-2257 duration such as ``600ms`` or ``1h30m``. Raises ValueError with the mend."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f'{text!r} is not a duration; write for example "600ms", "2s" or "1m30s" (h, m, s, ms)')
    duration = timedelta(milliseconds=sum(int(n) * _MILLISECONDS[unit] for n, unit in _DURATION_PART.findall(text)))
    if duration >= _DURATION_END:
        raise ValueError(f"{text!r} is longer than 99999h59m59s999ms, the longest duration; write a shorter one")
    return duration


def format_duration(duration: timedelta) -> str:
    """Write a duration in GEP-2257's normal form. Raises ValueError for one that the form cannot say."""
    milliseconds, rest = divmod(duration, timedelta(milliseconds=1))
    if rest or not timedelta() <= duration < _DURATION_END:
        raise ValueError(f"{duration!r} is negative, finer than a millisecond or 100,000 hours and more")
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_decimal(text: str) -> Decimal:
    """Read a decimal string such as ``0.379``: no exponent, no sign but a minus. Raises ValueError with the mend."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(
            f'{text!r} is not a decimal; write digits with at most nine after the point, for example "0.5"'
        )
    return Decimal(text)


def format_decimal(number: Decimal) -> str:
    """Write a decimal without an exponent, digits as they were given."""
    return f"{number:f}"


def parse_quantity(quantity: int | str) -> Decimal:
    """A quantity as Kubernetes writes it (2, 500m, 16Gi) as an exact number. Raises ValueError with the mend."""
    if isinstance(quantity, int):
        return Decimal(quantity)
    found = _QUANTITY.fullmatch(quantity) if re.fullmatch(QUANTITY_PATTERN, quantity, re.ASCII) else None
    if found is None:
        raise ValueError(f'{quantity!r} is not a quantity; write for example 2, "500m" or "16Gi"')
    number, suffix, exponent = found.groups()
    if suffix in _BINARY:
        return Decimal(number) * Decimal(2 ** _BINARY[suffix])
    return Decimal(number).scaleb(int(exponent) if exponent else _SUFFIXES[suffix])


def _quantity(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12:
        return value
    if isinstance(value, str):
        parse_quantity(value)
        return value
    raise ValueError(f'{value!r} is not a quantity; write for example 2, "500m" or "16Gi"')


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f'{value!r} is not a duration; write it with its unit in quotes, for example "600ms"')


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        return parse_decimal(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'write this fraction as a decimal string, in quotes: "{value}"')
    raise ValueError(f'{value!r} is not a decimal string; write for example "0.5", in quotes')


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "maxLength": 28,
            "x-kubernetes-validations": [
                {
                    "rule": "duration(self) < duration('100000h')",
                    "message": "longer than 99999h59m59s999ms, the longest duration: write a shorter one",
                }
            ],
        }
    ),
]
"""A duration as in GEP-2257, to the millisecond."""

DecimalString = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    PlainSerializer(format_decimal, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DECIMAL_PATTERN, "maxLength": 20}),
]
"""An exact number written as a string: floats have no place in a resource."""

Quantity = Annotated[
    int | str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
            "minimum": 0,
            "maximum": 10**12 - 1,
        }
    ),
]
"""An amount of a resource as Kubernetes writes it: a whole number, or a string with a suffix; kept as written."""

Label = Annotated[str, Field(pattern=DNS_LABEL_PATTERN, max_length=63)]
"""A DNS-1123 label."""
DottedName = Annotated[str, Field(pattern=DNS_SUBDOMAIN_PATTERN, max_length=63)]
"""A DNS-1123 subdomain of at most 63 characters: names of models and tasks, for example ``opt-1.3b``."""
ObjectName = Annotated[str, Field(pattern=DNS_SUBDOMAIN_PATTERN, max_length=253)]
"""The name of a Kubernetes object, for example of a ConfigMap."""
ModelID = Annotated[str, Field(pattern=MODEL_ID_PATTERN, max_length=255)]
"""A model as its hub names it, for example ``facebook/opt-1.3b``."""
DeviceClass = Annotated[str, Field(pattern=DEVICE_CLASS_PATTERN, max_length=63)]
"""A kind of accelerator, for example ``A100-80GB``."""
DataKey = Annotated[str, Field(pattern=DATA_KEY_PATTERN, max_length=253)]
"""A key in the data of a ConfigMap or Secret."""
LabelKey = Annotated[str, Field(pattern=LABEL_KEY_PATTERN, max_length=317)]
"""The key of a label, annotation, taint or resource in Kubernetes."""
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]
"""The value of a label in Kubernetes."""
VariableName = Annotated[str, Field(pattern=VARIABLE_NAME_PATTERN, max_length=253)]
"""The name of an environment variable."""
ImageReference = Annotated[str, Field(pattern=IMAGE_PATTERN, max_length=512)]
"""A container image by tag or digest."""
ModelRevision = Annotated[str, Field(pattern=REVISION_PATTERN, max_length=255)]
"""A branch, tag or commit of a model on its hub."""
LabelName = Annotated[str, Field(pattern=LABEL_NAME_PATTERN, max_length=200)]
"""The name of a label in Prometheus."""
WholeNumber = Annotated[str, Field(pattern=WHOLE_NUMBER_PATTERN)]
"""A positive integer written as a string, as in a ConfigMap's data."""
