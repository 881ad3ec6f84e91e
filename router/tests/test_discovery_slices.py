"""EndpointSlices as they come: conditions, families, duplicates, and anything at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from slice_server import endpoint, slice_of

from bes_router.discovery.slices import EndpointSlice, Pod, SliceList, pods_of

PORTS = {"opt-small": "http"}


def parsed(each: dict[str, Any]) -> EndpointSlice:
    each["metadata"]["resourceVersion"] = "1"
    return EndpointSlice.model_validate_json(json.dumps(each))


def pods(*slices: dict[str, Any]) -> tuple[Pod, ...]:
    return pods_of(map(parsed, slices), PORTS)["opt-small"]


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": None}, True),
        ({"ready": False, "serving": False}, False),
        ({"ready": True, "serving": False}, False),
        ({"ready": True, "terminating": True}, None),
        ({"ready": False, "serving": True, "terminating": True}, None),
    ],
)
def test_what_the_conditions_of_an_endpoint_come_to(conditions: dict[str, Any], ready: bool | None) -> None:
    found = pods(slice_of("opt-small", "s", 8000, endpoint("p", **conditions)))
    assert [pod.ready for pod in found] == ([] if ready is None else [ready])


def test_a_pod_is_known_by_its_uid_and_found_by_address_port_and_node() -> None:
    (pod,) = pods(slice_of("opt-small", "s", 8000, endpoint("p", node="n1")))
    assert pod == Pod("uid-p", "p", "127.0.0.1", 8000, "n1", True)
    without = endpoint("p") | {"targetRef": None, "conditions": None}
    (other,) = pods(slice_of("opt-small", "s", 8000, without))
    assert other == Pod("127.0.0.1:8000", "", "127.0.0.1", 8000, None, True)


def test_a_pod_in_several_slices_is_one_pod_at_its_ipv4_address() -> None:
    six = slice_of("opt-small", "six", 8000, endpoint("p", ready=False) | {"addresses": ["fd00::1"]}, family="IPv6")
    (pod,) = pods(six, slice_of("opt-small", "four", 8000, endpoint("p")))
    assert (pod.address, pod.ready) == ("127.0.0.1", True)
    (alone,) = pods(six)
    assert (alone.address, alone.ready) == ("fd00::1", False)


def test_what_could_not_be_asked_is_left_out() -> None:
    good = slice_of("opt-small", "good", 8000, endpoint("p"))
    assert pods(
        good,
        slice_of("other", "others", 8000, endpoint("a")),
        slice_of("opt-small", "named", 8000, endpoint("b") | {"addresses": ["engine.example"]}, family="FQDN"),
        slice_of("opt-small", "odd", 8000, endpoint("c") | {"addresses": ["a\r\nb"]}),
        slice_of("opt-small", "portless", 8000, endpoint("d")) | {"ports": []},
        slice_of("opt-small", "udp", 8000, endpoint("e")) | {"ports": [{"name": "http", "port": 1, "protocol": "UDP"}]},
        slice_of("opt-small", "any", 8000, endpoint("f")) | {"ports": [{"name": "http", "port": None}]},
        slice_of("opt-small", "none", 8000) | {"endpoints": None},
    ) == pods(good)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "items", "endpoints", "addresses", "ports", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_document_is_a_list_of_slices_or_refused(value: object) -> None:
    try:
        found = SliceList.model_validate_json(json.dumps(value))
    except ValidationError:
        return
    pods_of(found.items or (), PORTS)
