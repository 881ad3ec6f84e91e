"""What is said of pods that do not start, and that it stays the same while they keep trying."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pod_samples import NO_GPU, NOT_FOUND, crashing, ended, pod_of, unschedulable, waiting
from status_samples import NOW, SMALL, deployment

from bes_operator.hindrances import Hindrance, hindrance_of, stall_in_seconds
from bes_operator.manifest import Key, Manifest

LONG_AGO = NOW - timedelta(hours=1)
HINDERED = deployment(SMALL, availableReplicas=0)
PULLED = f'Back-off pulling image "localhost/nope:1": ErrImagePull: {NOT_FOUND}'
NO_IMAGE = "image localhost/nope:1 cannot be pulled"


def live(*statuses: Mapping[str, Any], of: Manifest = HINDERED) -> dict[Key, Manifest]:
    return dict(pod_of(of, LONG_AGO, number, **status) for number, status in enumerate(statuses))


def said(*statuses: Mapping[str, Any]) -> str | None:
    found = hindrance_of(HINDERED, live(*statuses))
    return None if found is None else found.message


WORDS: dict[str, tuple[dict[str, Any], str | None, bool]] = {
    "an image that is not there": (waiting("ErrImagePull", "not found"), f"{NO_IMAGE} (not found)", True),
    "an image by a wrong name": (waiting("InvalidImageName", "bad"), f"{NO_IMAGE} (bad)", True),
    "a Secret that is not there": (
        waiting("CreateContainerConfigError", 'secret "hf" not found'),
        'container engine cannot be made (secret "hf" not found)',
        True,
    ),
    "a program that is not in the image": (
        crashing(4, 0, ended(128, "StartError", message='exec: "nope": executable file not found in $PATH')),
        "container engine ends again and again "
        '(StartError, exit code 128: exec: "nope": executable file not found in $PATH)',
        True,
    ),
    "too little memory": (
        crashing(3, 0, ended(137, "OOMKilled")),
        "container engine ends again and again (out of memory, exit code 137)",
        True,
    ),
    "an end that may have been an accident": (
        crashing(2, 0),
        "container engine has ended and starts again (exit code 1)",
        False,
    ),
    "an end after a long run": (
        crashing(9, 0, ended(1, "Error", timedelta(hours=2))),
        "container engine has ended and starts again (exit code 1)",
        False,
    ),
    "no GPU": (unschedulable(NO_GPU.format(nodes=1)), "no node takes its pod (Insufficient nvidia.com/gpu)", False),
    "no claim": (
        unschedulable('persistentvolumeclaim "hf" not found'),
        'no node takes its pod (persistentvolumeclaim "hf" not found)',
        False,
    ),
    "several reasons of several nodes": (
        unschedulable("0/5 nodes are available: 2 node(s) had untolerated taint {a: b}, 3 Insufficient cpu."),
        "no node takes its pod (Insufficient cpu, node[s] had untolerated taint {a: b})",
        False,
    ),
    "a container that is being made": (waiting("ContainerCreating"), None, False),
    "a model that loads": ({"containerStatuses": [{"name": "engine", "state": {"running": {}}}]}, None, False),
    "an init container that is done": (
        {"initContainerStatuses": [{"name": "i", "ready": True, "state": ended(0, "Completed")}]},
        None,
        False,
    ),
    "nothing yet": ({}, None, False),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_pod_says_why_it_does_not_start_and_whether_somebody_must_help(case: str) -> None:
    status, message, person = WORDS[case]
    assert said(status) == message
    assert (stall_in_seconds(HINDERED, live(status), NOW) is not None) == person


def test_an_attempt_and_the_back_off_after_it_say_the_same_of_an_image() -> None:
    first, then = said(waiting("ErrImagePull", NOT_FOUND)), said(waiting("ImagePullBackOff", PULLED))
    assert first == then
    assert first is not None
    assert first.endswith("connect: connection refused)")


def test_a_kubelet_that_forgets_why_during_its_back_off_leaves_what_was_said() -> None:
    first = hindrance_of(HINDERED, live(waiting("ErrImagePull", NOT_FOUND)))
    then = hindrance_of(HINDERED, live(waiting("ImagePullBackOff", 'Back-off pulling image "localhost/nope:1"')))
    assert first is not None
    assert then is not None
    assert then.after("") == NO_IMAGE
    assert then.after(f"model opt-125m: {first.message}; and more") == first.message


@given(st.integers(3, 1000), st.integers(0, 2))
def test_a_crash_loop_sounds_the_same_at_every_step_of_it(restarts: int, step: int) -> None:
    assert said(crashing(restarts, step)) == said(crashing(3, 0))


@given(st.integers(1, 500))
def test_nodes_that_come_and_go_without_room_change_nothing(nodes: int) -> None:
    assert said(unschedulable(NO_GPU.format(nodes=nodes))) == said(unschedulable(NO_GPU.format(nodes=1)))


@given(st.integers(0, 255), st.integers(1024, 65535))
def test_addresses_and_ports_of_a_failed_pull_are_left_out(byte: int, port: int) -> None:
    def pulled(byte: int, port: int) -> str | None:
        text = f"lookup a.example on 10.96.0.10:53: read udp 10.0.0.{byte}:{port}->10.96.0.10:53: i/o timeout"
        return said(waiting("ErrImagePull", text))

    assert pulled(byte, port) == pulled(1, 2000) == f"{NO_IMAGE} (lookup a.example on : read udp i/o timeout)"


@given(st.permutations([crashing(5, 0), waiting("ErrImagePull", "gone"), unschedulable("no"), waiting("Else"), {}]))
def test_the_gravest_word_is_said_whichever_pod_says_it(statuses: list[dict[str, Any]]) -> None:
    assert said(*statuses) == "container engine ends again and again (exit code 1)"


@given(st.text(max_size=3000), st.sampled_from(["ErrImagePull", "ImagePullBackOff", "CreateContainerError"]))
def test_whatever_is_said_becomes_one_short_line_that_is_found_again(message: str, reason: str) -> None:
    for status in (waiting(reason, message), unschedulable(message)):
        found = hindrance_of(HINDERED, live(status))
        assert found is not None
        assert len(found.message) < 400
        assert "\n" not in found.message
        assert Hindrance(found.transient, found.said).after(f"x: {found.message}; y") == found.message


def test_only_pods_of_the_newest_template_are_asked() -> None:
    old_one = {**HINDERED, "spec": {**HINDERED["spec"], "template": _with(image="older:1")}}
    both = dict([pod_of(HINDERED, LONG_AGO, 0), pod_of(old_one, LONG_AGO, 1, **crashing(9, 0))])
    assert hindrance_of(HINDERED, both) is None
    altered = dict([pod_of(old_one, LONG_AGO, 1, **crashing(9, 0))])
    assert hindrance_of(HINDERED, altered) is not None, "a webhook has altered it: nothing older is left"
    rolling = deployment(SMALL, updatedReplicas=1, availableReplicas=0)
    assert hindrance_of(rolling, altered) is None


def test_a_pod_is_of_the_newest_template_though_requests_were_filled_in_and_no_longer_when_it_asks_for_less() -> None:
    rolling = deployment(SMALL, updatedReplicas=1, availableReplicas=0)
    rolling = {**rolling, "spec": {**rolling["spec"], "template": _with(resources={"limits": {"nvidia.com/gpu": "9"}})}}
    pods = dict([pod_of(rolling, LONG_AGO, 0, **unschedulable("no GPU"))])
    assert hindrance_of(rolling, pods) is not None
    template = _with(resources={"limits": {"nvidia.com/gpu": "10"}})
    assert hindrance_of({**rolling, "spec": {**rolling["spec"], "template": template}}, pods) is None


def test_who_leaves_or_belongs_to_somebody_else_says_nothing() -> None:
    key, pod = pod_of(HINDERED, LONG_AGO, 0, **crashing(9, 0))
    leaving = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-03-01T11:59:00Z"}}
    stranger = {**pod, "metadata": {**pod["metadata"], "ownerReferences": [{"kind": "ReplicaSet", "name": "other-1"}]}}
    for each in (leaving, stranger):
        assert hindrance_of(HINDERED, {key: each}) is None
        assert stall_in_seconds(HINDERED, {key: each}, NOW) is None
    assert hindrance_of(deployment(SMALL), {key: pod}) is None, "everything is there"


def test_a_pod_is_given_a_minute_before_a_person_is_asked() -> None:
    pods = dict([pod_of(HINDERED, NOW - timedelta(seconds=20), 0, **waiting("ErrImagePull", "gone"))])
    assert stall_in_seconds(HINDERED, pods, NOW) == 40.0
    assert stall_in_seconds(HINDERED, pods, NOW + timedelta(seconds=40)) == 0.0


def _with(**container: Any) -> dict[str, Any]:
    template = HINDERED["spec"]["template"]
    containers = [{**each, **container} for each in template["spec"]["containers"]]
    return {**template, "spec": {**template["spec"], "containers": containers}}
