"""URLs of a Prometheus: the one pattern that the API server has too says all that can be wrong with them."""

import ipaddress
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bes_api.origins import URL_PATTERN, origin_of


@given(st.ip_addresses(v=6))
@settings(deadline=None)
def test_every_ipv6_address_may_be_written_short_or_in_full(address: ipaddress.IPv6Address) -> None:
    assume(address.ipv4_mapped is None)  # newer Pythons write those with an IPv4 address inside
    for written in (address.compressed, address.exploded):
        assert origin_of(f"http://[{written}]:9090") == f"http://[{written}]:9090"


@given(st.text("0123456789abcdefg:.", max_size=42))
@settings(deadline=None)
def test_what_the_pattern_takes_as_an_ipv6_address_is_one(text: str) -> None:
    if re.fullmatch(URL_PATTERN, f"http://[{text}]"):
        ipaddress.IPv6Address(text)


@given(st.from_regex(re.compile(URL_PATTERN, re.ASCII), fullmatch=True))
@settings(deadline=None, max_examples=50)
def test_every_url_that_the_pattern_takes_has_an_origin(url: str) -> None:
    assert re.fullmatch(r"https?://.+:[0-9]+", origin_of(url))


@pytest.mark.parametrize(
    ("port", "allowed"), [("1", True), ("65535", True), ("0", False), ("65536", False), ("080", False)]
)
def test_ports_are_those_that_exist(port: str, allowed: bool) -> None:
    assert (re.fullmatch(URL_PATTERN, f"http://a:{port}") is not None) is allowed
