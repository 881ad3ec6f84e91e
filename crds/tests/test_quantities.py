"""Durations, decimals and names: what Kubernetes' forms allow, exactly."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bes_api import quantities
from bes_api.quantities import (
    DecimalString,
    DottedName,
    Duration,
    Quantity,
    format_duration,
    parse_decimal,
    parse_duration,
    parse_quantity,
)

durations = st.integers(0, 100_000 * 3_600_000 - 1).map(lambda n: timedelta(milliseconds=n))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600ms", 0.6), ("2s", 2), ("1m30s", 90), ("1h", 3600), ("0s", 0), ("1h1m1s1ms", 3661.001), ("90s", 90)],
)
def test_durations_are_read_as_gep_2257_says(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.5s", "-1s", "1d", "1us", "100000s", "1s ", "1s1s1s1s1s", "s", "1S", "٣s", "1s\n", "99999h99999h"],
)
def test_what_gep_2257_forbids_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|write a shorter one"):
        parse_duration(text)


@given(durations)
@settings(deadline=None)
def test_a_duration_survives_being_written(duration: timedelta) -> None:
    text = format_duration(duration)
    assert parse_duration(text) == duration
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize("duration", [timedelta(microseconds=1), timedelta(seconds=-1), timedelta(hours=100_000)])
def test_a_duration_without_a_form_is_not_written(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="finer than a millisecond"):
        format_duration(duration)


@given(st.decimals(-1000, 1000, allow_nan=False, allow_infinity=False, places=6))
@settings(deadline=None)
def test_a_decimal_survives_being_written(number: Decimal) -> None:
    adapter = TypeAdapter[Decimal](DecimalString)
    assert adapter.validate_python(adapter.dump_python(number, mode="json")) == number


@pytest.mark.parametrize(
    "text", ["", ".5", "1.", "1e-3", "+1", "NaN", "Infinity", "0,5", " 1", "1_000", "0.1234567890"]
)
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a decimal"):
        parse_decimal(text)


@pytest.mark.parametrize("value", [0.5, 1, True, None, [], {}])
@pytest.mark.parametrize("kind", [Duration, DecimalString])
def test_only_strings_are_taken_for_durations_and_fractions(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError, match="quotes"):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("name", "valid"),
    [("opt-1.3b", True), ("a", True), ("1", True), ("A", False), ("-a", False), ("a.", False), ("a..b", False)],
)
def test_names_are_dns_subdomains(name: str, valid: bool) -> None:
    adapter = TypeAdapter[str](DottedName)
    if valid:
        assert adapter.validate_python(name) == name
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(name)


@pytest.mark.parametrize("kind", [Duration, DecimalString])
def test_the_json_schema_is_a_string_with_a_pattern(kind: Any) -> None:
    schema = TypeAdapter(kind).json_schema()
    assert schema["type"] == "string"
    assert schema["pattern"] in {quantities.DURATION_PATTERN, quantities.DECIMAL_PATTERN}


@pytest.mark.parametrize(
    ("quantity", "number"),
    [(2, "2"), ("2", "2"), ("500m", "0.5"), ("16Gi", "17179869184"), ("1.5k", "1500"), ("2e3", "2000"), ("1E", "1e18")],
)
def test_quantities_are_the_numbers_that_kubernetes_means(quantity: int | str, number: str) -> None:
    assert parse_quantity(quantity) == Decimal(number)
    assert TypeAdapter(Quantity).validate_python(quantity) == quantity  # kept as it was written


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1Kb", "1ki", ".5", "1e", "1 Gi", "Gi", "1\n", "٣", True, 1.5, -1, None]
)
def test_what_is_no_quantity_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(ValidationError, match="write for example 2"):
        TypeAdapter(Quantity).validate_python(text)
