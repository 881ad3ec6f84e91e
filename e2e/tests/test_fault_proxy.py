"""What the fault proxy makes of requests, and which of them it strikes."""

import pytest

from bes_lab.cluster.struck_calls import Call, Fault, Trap, call_of

OPT = "/apis/besteffort.dev/v1alpha1/namespaces/a/besteffortservices/opt"


@pytest.mark.parametrize(
    ("method", "path", "watching", "said"),
    [
        ("GET", "/api/v1/namespaces/a/configmaps", False, "list configmaps"),
        ("GET", "/api/v1/configmaps", True, "watch configmaps"),
        ("GET", "/api/v1/namespaces/a/configmaps/x", False, "get configmaps/x"),
        ("PATCH", f"{OPT}/status", False, "patch besteffortservices/opt/status"),
        ("DELETE", OPT, False, "delete besteffortservices/opt"),
        ("POST", "/apis/coordination.k8s.io/v1/namespaces/a/leases", False, "create leases"),
        ("GET", "/api/v1/namespaces/a", False, "get namespaces/a"),
        ("GET", "/apis/apps/v1", False, "get discovery"),
        ("GET", "/", False, "get discovery"),
    ],
)
def test_a_request_is_said_in_the_words_of_kubernetes(method: str, path: str, watching: bool, said: str) -> None:
    assert str(call_of(method, path, "", watching=watching)) == said


def test_leases_and_events_are_no_writes_of_a_pass() -> None:
    def call(method: str, path: str) -> Call:
        return call_of(method, path, "", watching=False)

    assert call("PATCH", OPT).own_write
    assert not call("GET", OPT).own_write
    assert not call("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/x").own_write
    assert not call("PATCH", "/apis/events.k8s.io/v1/namespaces/a/events/x").own_write


def test_a_trap_strikes_the_nth_call_that_matches_and_no_other() -> None:
    calls = [call_of("PATCH", f"/api/v1/namespaces/a/{kind}/x", "", watching=False) for kind in ("secrets", "services")]
    trap = Trap(Fault.BROKEN, lambda call: call.kind == "services", nth=2)
    assert [trap.takes(call) for call in calls * 3] == [False, False, False, True, False, False]
    assert trap.struck == calls[1]
