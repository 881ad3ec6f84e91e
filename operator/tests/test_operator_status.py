from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from desired_samples import EMULATED, request_for
from pod_samples import NO_GPU, crashing, pod_of, unschedulable, waiting
from status_samples import (
    LARGE,
    LATER,
    NOW,
    PLAN,
    ROUTER,
    SMALL,
    WANTED,
    deployment,
    router_status,
    seen,
    slice_of,
    with_live,
    with_router,
)

from bes_api.conditions import ConditionStatus, ConditionType, Reason
from bes_api.service_status import ServedStatus, ServiceStatus, read_status, write_status
from bes_operator.desired.objects import desired_objects
from bes_operator.desired.request import Complaint
from bes_operator.manifest import Key
from bes_operator.policy.seen import RouterSeen
from bes_operator.seen import Seen
from bes_operator.status import begun, events_of, status_of

AVAILABLE, READY, RECONCILING, STALLED, POLICY, FIGURES, REDUCED = (
    ConditionType.AVAILABLE,
    ConditionType.READY,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
    ConditionType.POLICY_READY,
    ConditionType.LOAD_FIGURES,
    ConditionType.QUALITY_REDUCED,
)
WELL = {
    AVAILABLE: ("True", Reason.SERVING),
    READY: ("True", Reason.AS_DESIRED),
    RECONCILING: ("False", Reason.AS_DESIRED),
    STALLED: ("False", Reason.NOT_STALLED),
    POLICY: ("True", Reason.RULE_ASKED),
    FIGURES: ("True", Reason.FIGURES_FRESH),
    REDUCED: ("False", Reason.FULL_QUALITY),
}
STUCK = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no progress"}
QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
OTHER_CONFIGURATION = {"digest": "sha256:" + "1" * 64}
REFUSES = OTHER_CONFIGURATION | {"refused_digest": router_status().configuration.digest, "problem": "too new"}


def complained(kind: ConditionType, reason: Reason) -> Seen:
    return seen(complaints=(Complaint(kind, reason, "mend it"),))


def rolled(key: Key, **status: Any) -> Seen:
    return with_live()({key: deployment(key, **status)})


def hindered(key: Key, pod: dict[str, Any], seconds: float = 3600.0, **status: Any) -> Seen:
    """Pods of a Deployment that have been there for so long."""
    live = deployment(key, availableReplicas=0, **status)
    pods = [pod_of(live, NOW - timedelta(seconds=seconds), number, **pod) for number in range(2)]
    return with_live()({key: live, **dict(pods)})


def conditions(status: ServiceStatus) -> dict[ConditionType, tuple[str, str]]:
    return {ConditionType(each.type): (str(each.status), each.reason) for each in status.conditions}


TABLE: dict[str, tuple[Seen, dict[ConditionType, tuple[str, Reason]]]] = {
    "all is well": (seen(), {}),
    "no router is ready": (
        with_live()(dict([slice_of(ROUTER, False, False)])),
        {AVAILABLE: ("False", Reason.NO_ROUTER)},
    ),
    "no engine is ready": (
        with_live()(dict([slice_of(SMALL), slice_of(LARGE, False)])),
        {AVAILABLE: ("False", Reason.NO_ENGINE), REDUCED: ("True", Reason.MODEL_DOWN)},
    ),
    "one model has no engine": (
        with_live()(dict([slice_of(LARGE, False, False)])),
        {REDUCED: ("True", Reason.MODEL_DOWN)},
    ),
    "a Deployment is not there yet": (
        with_live()({LARGE: None}),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "a rollout has replaced one pod of two": (
        rolled(SMALL, updatedReplicas=1),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "the controller has not seen the newest spec": (
        rolled(SMALL, observedGeneration=2),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "an old pod is still there": (
        rolled(SMALL, replicas=3),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "a pod is not ready": (
        rolled(SMALL, availableReplicas=1),
        {READY: ("False", Reason.WAITING), RECONCILING: ("True", Reason.WAITING)},
    ),
    "pods cannot be made": (
        rolled(SMALL, replicas=1, updatedReplicas=1, availableReplicas=1, conditions=[QUOTA]),
        {READY: ("False", Reason.WAITING), RECONCILING: ("True", Reason.WAITING)},
    ),
    "a rollout is stuck": (
        rolled(ROUTER, updatedReplicas=1, conditions=[STUCK]),
        {
            READY: ("False", Reason.PROGRESS_DEADLINE_EXCEEDED),
            RECONCILING: ("False", Reason.PROGRESS_DEADLINE_EXCEEDED),
            STALLED: ("True", Reason.PROGRESS_DEADLINE_EXCEEDED),
        },
    ),
    "an image cannot be pulled": (
        hindered(SMALL, waiting("ImagePullBackOff", "Back-off")),
        {
            READY: ("False", Reason.PODS_CANNOT_START),
            RECONCILING: ("False", Reason.PODS_CANNOT_START),
            STALLED: ("True", Reason.PODS_CANNOT_START),
        },
    ),
    "there is no GPU for it": (
        hindered(SMALL, unschedulable(NO_GPU.format(nodes=3))),
        {READY: ("False", Reason.WAITING), RECONCILING: ("True", Reason.WAITING)},
    ),
    "there has been no GPU for it for too long": (
        hindered(SMALL, unschedulable(NO_GPU.format(nodes=3)), conditions=[STUCK]),
        {
            READY: ("False", Reason.PROGRESS_DEADLINE_EXCEEDED),
            RECONCILING: ("False", Reason.PROGRESS_DEADLINE_EXCEEDED),
            STALLED: ("True", Reason.PROGRESS_DEADLINE_EXCEEDED),
        },
    ),
    "the configuration is on its way": (
        with_router(configuration=OTHER_CONFIGURATION),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "a router refuses its configuration": (
        with_router(configuration=REFUSES),
        {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)},
    ),
    "a name is taken": (
        complained(STALLED, Reason.NAME_TAKEN),
        {
            READY: ("False", Reason.NAME_TAKEN),
            RECONCILING: ("False", Reason.NAME_TAKEN),
            STALLED: ("True", Reason.NAME_TAKEN),
        },
    ),
    "the resource cannot be read": (
        replace(complained(STALLED, Reason.UNREADABLE), service=None, wanted=None),
        {
            READY: ("False", Reason.UNREADABLE),
            RECONCILING: ("False", Reason.UNREADABLE),
            STALLED: ("True", Reason.UNREADABLE),
            REDUCED: ("Unknown", Reason.UNREADABLE),
        },
    ),
    "the API server answers errors": (
        complained(RECONCILING, Reason.API_UNAVAILABLE),
        {READY: ("False", Reason.API_UNAVAILABLE), RECONCILING: ("True", Reason.API_UNAVAILABLE)},
    ),
    "nothing could be computed yet": (
        seen(wanted=None),
        {READY: ("False", Reason.NEW_GENERATION), RECONCILING: ("True", Reason.NEW_GENERATION)},
    ),
    "it is paused": (
        seen(wanted=None, paused=True),
        {READY: ("Unknown", Reason.PAUSED), RECONCILING: ("False", Reason.PAUSED)},
    ),
    "the policy is in training": (
        seen(policy=replace(PLAN, ready=ConditionStatus.FALSE, reason=Reason.TRAINING)),
        {POLICY: ("False", Reason.TRAINING)},
    ),
    "no router has said anything lately": (with_router(1000.0), {FIGURES: ("Unknown", Reason.ROUTERS_UNREACHABLE)}),
    "no router has said anything yet": (
        seen(routers=(RouterSeen("demo-router-1"),)),
        {FIGURES: ("Unknown", Reason.ROUTERS_UNREACHABLE)},
    ),
    "no figure is known": (
        with_router(load={"source": "prometheus", "known": 0, "listed": 4, "share": 1.0}),
        {FIGURES: ("False", Reason.FIGURES_ABSENT)},
    ),
    "some figures are old": (
        with_router(load={"source": "direct", "known": 3, "listed": 4, "share": 1.0}),
        {FIGURES: ("False", Reason.FIGURES_OLD)},
    ),
    "a router that has just started knows no figure": (
        with_router(load={"source": "prometheus", "known": 0, "listed": 4, "share": 1.0}, uptime_seconds=10.0),
        {FIGURES: ("Unknown", Reason.ROUTERS_UNREACHABLE)},
    ),
    "an engine that loads has no figures": (
        with_router(load={"source": "direct", "known": 3, "listed": 4, "share": 1.0}, backends_ready=3),
        {},
    ),
    "Prometheus is not on the allow-list": (
        complained(FIGURES, Reason.ORIGIN_NOT_ALLOWED),
        {FIGURES: ("False", Reason.ORIGIN_NOT_ALLOWED)},
    ),
    "a delivered policy does not fit": (
        with_router(
            policy={"asked": "Delivered", "name": "DeadlineAware", "fallback": True, "reason": "misfit", "failures": 0}
        ),
        {REDUCED: ("True", Reason.FALLBACK)},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_conditions_are_what_was_seen(case: str) -> None:
    observed, differing = TABLE[case]
    assert conditions(status_of(observed)) == WELL | differing


@pytest.mark.parametrize("case", TABLE)
def test_a_condition_that_is_bad_says_why(case: str) -> None:
    bad = {AVAILABLE: "False", READY: "False", STALLED: "True", FIGURES: "False", REDUCED: "True"}
    for condition in status_of(TABLE[case][0]).conditions:
        if bad.get(ConditionType(condition.type)) == condition.status:
            assert len(condition.message) > 5


@pytest.mark.parametrize("case", TABLE)
def test_the_same_seen_later_is_the_same_status(case: str) -> None:
    observed = TABLE[case][0]
    first = status_of(observed)
    stored = read_status({"status": write_status(first)})
    assert status_of(replace(observed, previous=stored, now=LATER)) == first


def test_a_condition_moves_its_time_only_with_its_status() -> None:
    first = status_of(seen())
    second = status_of(replace(rolled(SMALL, availableReplicas=1), previous=first, now=LATER))
    times = {each.type: each.last_transition_time for each in second.conditions}
    assert times[READY] == times[RECONCILING] == LATER
    assert times[AVAILABLE] == times[FIGURES] == NOW


def test_every_condition_is_of_the_generation_that_was_seen() -> None:
    assert {each.observed_generation for each in status_of(seen()).conditions} == {7}
    assert status_of(seen()).observed_generation == 7


def test_a_new_generation_is_first_said_to_be_worked_on() -> None:
    before = status_of(seen())
    first = begun(before, 8, LATER)
    assert first is not None
    found = conditions(first)
    assert first.observed_generation == 8
    assert (found[READY], found[RECONCILING]) == (
        ("Unknown", Reason.NEW_GENERATION),
        ("True", Reason.NEW_GENERATION),
    )
    assert found[AVAILABLE] == WELL[AVAILABLE]
    assert begun(first, 8, LATER) is None


def test_a_new_policy_alone_never_makes_a_service_unready() -> None:
    moved = replace(with_router(configuration=OTHER_CONFIGURATION), previous=status_of(seen()))
    assert conditions(status_of(moved))[READY] == WELL[READY]
    newer = replace(moved, generation=8)
    assert conditions(status_of(newer))[READY] == ("False", Reason.ROLLING_OUT)


def test_an_unreadable_resource_keeps_what_was_said_of_its_models_and_policy() -> None:
    before = status_of(seen())
    after = status_of(replace(TABLE["the resource cannot be read"][0], policy=None, previous=before))
    assert (after.models, after.endpoint, after.policy) == (before.models, before.endpoint, before.policy)
    assert conditions(after)[POLICY] == WELL[POLICY]


def test_models_count_ready_endpoints_once_and_say_what_is_desired() -> None:
    key, manifest = slice_of(SMALL, True, False)
    twice = {key: manifest, replace(key, name="another-slice"): manifest}
    models = {model.name: model for model in status_of(with_live()(twice)).models}
    assert (models["opt-125m"].ready, models["opt-125m"].desired) == (1, 2)
    assert models["opt-125m"].deployment_name == SMALL.name


def test_a_scaled_models_desired_number_is_whatever_somebody_scaled_it_to() -> None:
    service = request_for(EMULATED).service
    models = [service.spec.models[0].model_dump(by_alias=True, exclude_none=True), service.spec.models[1].model_dump()]
    models[0] = {**models[0], "replicaRange": {"min": 1, "max": 4}}
    del models[0]["replicas"]
    data = service.model_dump(mode="json", by_alias=True, exclude_none=True)
    data["spec"]["models"][0] = models[0]
    ranged = type(service).model_validate(data)
    live = deployment(SMALL)
    scaled = {**live, "spec": {**live["spec"], "replicas": 3}}
    found = status_of(replace(with_live()({SMALL: scaled}), service=ranged)).models
    assert next(model.desired for model in found if model.name == "opt-125m") == 3


def test_clients_are_told_where_to_send_requests() -> None:
    assert status_of(seen()).endpoint == "http://demo-router.apps.svc:8080"


def test_served_figures_stay_until_new_ones_come() -> None:
    served = ServedStatus(performance="0.91", in_time="0.97", since=NOW, until=NOW)
    before = status_of(seen(served=served))
    assert before.served == served
    assert status_of(replace(seen(), previous=before)).served == served


def test_what_is_missing_stalls_the_service_and_says_what() -> None:
    stalled = desired_objects(request_for(EMULATED, profiles={}))
    complaint = Complaint(STALLED, Reason.SECRET_MISSING, "create the Secret 'hf'")
    status = status_of(seen(wanted=replace(stalled, complaints=(complaint, complaint))))
    found = status.condition(STALLED)
    assert found is not None
    assert (found.status, found.reason, found.message) == (ConditionStatus.TRUE, complaint.reason, complaint.message)


def told(before: Seen | None, after: Seen) -> list[tuple[str, str]]:
    first = ServiceStatus() if before is None else status_of(before)
    return [(event.type, event.reason) for event in events_of(first, status_of(replace(after, previous=first)))]


EVENTS: dict[str, tuple[Seen | None, Seen, list[tuple[str, str]]]] = {
    "nothing changed": (seen(), seen(), []),
    "it became ready": (rolled(SMALL, availableReplicas=1), seen(), [("Normal", "Ready")]),
    "a pod is not ready": (seen(), rolled(SMALL, availableReplicas=1), []),
    "a new service has no router yet": (None, TABLE["no router is ready"][0], [("Normal", "Ready")]),
    "the routers went": (seen(), TABLE["no router is ready"][0], [("Warning", "NoRouter")]),
    "the routers came back": (TABLE["no router is ready"][0], seen(), [("Normal", "Serving")]),
    "a name is taken": (seen(), TABLE["a name is taken"][0], [("Warning", "NameTaken")]),
    "a new service's name is taken": (None, TABLE["a name is taken"][0], [("Warning", "NameTaken")]),
    "it stalls for another reason": (
        TABLE["a name is taken"][0],
        TABLE["the resource cannot be read"][0],
        [("Warning", "Unreadable")],
    ),
    "what stalled was mended": (
        TABLE["a name is taken"][0],
        seen(),
        [("Normal", "NotStalled"), ("Normal", "Ready")],
    ),
    "figures went": (seen(), TABLE["no figure is known"][0], [("Warning", "FiguresAbsent")]),
    "figures came back": (TABLE["no figure is known"][0], seen(), [("Normal", "FiguresFresh")]),
    "nobody can say of figures": (seen(), TABLE["no router has said anything lately"][0], []),
    "some figures are old for a moment": (seen(), TABLE["some figures are old"][0], []),
    "and are fresh again": (TABLE["some figures are old"][0], seen(), []),
    "a new service has no engines yet": (None, TABLE["no engine is ready"][0], [("Normal", "Ready")]),
    "a model went": (seen(), TABLE["one model has no engine"][0], [("Warning", "ModelDown")]),
    "a model came back": (TABLE["one model has no engine"][0], seen(), [("Normal", "FullQuality")]),
}


@pytest.mark.parametrize("case", EVENTS)
def test_a_person_hears_of_what_changed_for_them(case: str) -> None:
    before, after, expected = EVENTS[case]
    assert told(before, after) == expected


@pytest.mark.parametrize("case", TABLE)
def test_every_event_has_something_to_say(case: str) -> None:
    for first in (ServiceStatus(), status_of(seen())):
        for event in events_of(first, status_of(replace(TABLE[case][0], previous=first))):
            assert event.message


@pytest.mark.parametrize(
    ("status", "paused", "words"),
    [({"conditions": [QUOTA]}, False, "pods cannot be made"), ({}, True, "kubectl rollout resume")],
)
def test_what_somebody_must_mend_is_said_before_what_only_takes_its_time(
    status: dict[str, Any], paused: bool, words: str
) -> None:
    held = deployment(ROUTER, availableReplicas=0, updatedReplicas=0, **status)
    held = {**held, "spec": {**held["spec"], "paused": paused}}
    observed = with_live()({SMALL: deployment(SMALL, availableReplicas=0), ROUTER: held})
    reconciling = status_of(observed).condition(RECONCILING)
    assert reconciling is not None
    assert "the router" in reconciling.message
    assert words in reconciling.message


SAID = {
    "a pull": (
        hindered(ROUTER, waiting("ErrImagePull", "not found")),
        "the router: image localhost/nope:1 cannot be pulled (not found)",
    ),
    "a crash": (
        hindered(LARGE, crashing(7, 1)),
        "model opt-1.3b: container engine ends again and again (exit code 1)",
    ),
    "no GPU": (
        hindered(SMALL, unschedulable(NO_GPU.format(nodes=1))),
        "model opt-125m: 0 of 2 pods are ready: no node takes its pod (Insufficient nvidia.com/gpu)",
    ),
    "no GPU in time": (
        hindered(SMALL, unschedulable(NO_GPU.format(nodes=1)), conditions=[STUCK]),
        "model opt-125m: no node takes its pod (Insufficient nvidia.com/gpu)",
    ),
    "no GPU in a rollout": (
        hindered(SMALL, unschedulable(NO_GPU.format(nodes=1)), updatedReplicas=1),
        "model opt-125m is being rolled out: no node takes its pod (Insufficient nvidia.com/gpu)",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_ready_says_whose_pods_do_not_start_and_why(case: str) -> None:
    observed, words = SAID[case]
    ready = status_of(observed).condition(READY)
    assert ready is not None
    assert ready.message.startswith(words)


def test_nobody_is_asked_for_help_before_kubelets_have_tried_for_a_minute() -> None:
    young = hindered(SMALL, waiting("ImagePullBackOff", "Back-off"), seconds=59.0)
    waits = {READY: ("False", Reason.WAITING), RECONCILING: ("True", Reason.WAITING)}
    assert conditions(status_of(young)) == WELL | waits
    assert conditions(status_of(replace(young, now=NOW + timedelta(seconds=1))))[STALLED][0] == "True"


def test_all_that_somebody_must_help_are_said_together_and_before_what_takes_its_time() -> None:
    small, large = hindered(SMALL, waiting("InvalidImageName")), hindered(LARGE, crashing(3, 0))
    both = status_of(replace(small, live={**small.live, **{k: large.live[k] for k in large.live if "1-3b" in k.name}}))
    stalled = both.condition(STALLED)
    assert stalled is not None
    assert stalled.message.count("; model ") + 1 == 2
    waits = hindered(SMALL, unschedulable("no room"))
    slow = status_of(replace(waits, live={**waits.live, ROUTER: deployment(ROUTER, availableReplicas=0)}))
    ready = slow.condition(READY)
    assert ready is not None
    assert ready.message.endswith("no node takes its pod (no room)")


@pytest.mark.parametrize(("large", "words"), [(True, "others answer instead"), (False, "nothing can answer")])
def test_others_answer_for_a_model_without_engines_only_where_there_are_any(large: bool, words: str) -> None:
    observed = with_live()(dict([slice_of(SMALL, False), slice_of(LARGE, large)]))
    reduced = status_of(observed).condition(REDUCED)
    assert reduced is not None
    assert reduced.message.endswith(words)


def test_a_wanted_deployment_that_is_held_back_is_not_waited_for() -> None:
    held = replace(WANTED, steps=tuple(s for s in WANTED.steps if s.manifest["metadata"]["name"] != SMALL.name))
    observed = replace(rolled(SMALL, availableReplicas=1), wanted=held)
    assert conditions(status_of(observed))[READY] == WELL[READY]
