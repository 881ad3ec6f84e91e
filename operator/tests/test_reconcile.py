import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from desired_samples import SETTINGS
from in_memory_cluster import Call
from operation_rig import SERVICE_KEY, Rig, sample
from virtual_time import run

from bes_operator.errors import Absent, Busy, ClusterError, Conflict, Denied, Refused, TimedOut, Unavailable
from bes_operator.manifest import Key

ROUTER = Key("Deployment", "apps", "opt-router")
ACTIVE = Key("ConfigMap", "apps", "opt-active")
ERRORS: list[ClusterError] = [
    Conflict("call", "409"),
    Denied("call", "403"),
    Refused("call", "422"),
    Absent("call", "404"),
    Busy("call", "429", 3.0),
    Unavailable("call", "500"),
    TimedOut("call", "no answer"),
]


def scene(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await test(Rig())

    run(whole())


def intent_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What is left of an object when identity and versions are taken away."""
    metadata = {name: manifest["metadata"].get(name) for name in ("name", "namespace", "labels")}
    return {"metadata": metadata, **{name: manifest.get(name) for name in ("spec", "data", "subjects", "roleRef")}}


def state_of(rig: Rig) -> dict[Key, dict[str, Any]]:
    found = {key: intent_of(copy.deepcopy(manifest)) for key, manifest in rig.children().items()}
    return {key: {**one, "data": None} if key.kind == "Secret" else one for key, one in found.items()}  # it is random


def baseline() -> tuple[dict[Key, dict[str, Any]], list[Call]]:
    async def test() -> tuple[dict[Key, dict[str, Any]], list[Call]]:
        rig = Rig()
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        return state_of(rig), rig.cluster.calls

    return run(test())


def test_a_service_becomes_real_and_says_so() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        kinds = {key.kind for key in rig.children()}
        assert {"Deployment", "Service", "ConfigMap", "Secret", "ServiceAccount", "RoleBinding"} <= kinds
        assert rig.condition("Available")[0] == "True"
        assert rig.condition("Ready")[0] == "True"
        assert rig.condition("Stalled")[0] == "False"
        assert rig.status()["observedGeneration"] == rig.cluster.objects[SERVICE_KEY]["metadata"]["generation"]
        uid = rig.cluster.objects[SERVICE_KEY]["metadata"]["uid"]
        for child in rig.children().values():
            assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [uid]
            assert "finalizers" not in child["metadata"]

    scene(test)


def test_passes_in_which_nothing_changed_write_nothing_and_read_next_to_nothing() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating() as operation:
            await rig.settle()
            before = len(rig.cluster.calls)
            for _ in range(20):
                operation._add_all()
                await asyncio.sleep(10)
            later = rig.cluster.calls[before:]
            assert [call for call in later if call.writes] == []
            assert all(call.verb == "list" for call in later), "only the resync asks anything"
        before = len(rig.cluster.writes)
        async with rig.operating():
            await rig.settle()
        assert rig.cluster.writes[before:] == [], "an operator that starts again finds everything as it is"

    scene(test)


def test_what_the_cluster_alters_is_no_quarrel_and_a_hand_edit_of_it_heals() -> None:
    def drop(new: dict[str, Any]) -> None:
        new.get("spec", {}).get("template", {}).get("spec", {}).pop("securityContext", None)

    async def test(rig: Rig) -> None:
        rig.cluster.admission = drop
        rig.apply_service()
        async with rig.operating() as operation:
            await rig.settle()
            before, state = len(rig.cluster.writes), state_of(rig)
            for _ in range(20):
                operation._add_all()
                await asyncio.sleep(10)
            assert rig.cluster.writes[before:] == []
            rig.edit(ROUTER, lambda live: live["spec"].update(replicas=7))
            await asyncio.sleep(30)
            assert state_of(rig) == state

    scene(test)


def test_a_deleted_child_comes_back_and_an_edited_one_is_mended() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            before = state_of(rig)
            for key in sorted(rig.children()):
                rig.remove(key)
                await asyncio.sleep(30)
                assert key in rig.cluster.objects, f"{key} is not healed by its event"
            rig.edit(ROUTER, lambda live: live["spec"].update(replicas=7))
            rig.edit(ACTIVE, lambda live: live["metadata"].update(labels={}))
            await asyncio.sleep(30)
            assert state_of(rig) == before

    scene(test)


def test_what_is_no_longer_wanted_goes_and_nothing_else() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            before = rig.children()
            gone = rig.cluster.objects[SERVICE_KEY]["spec"]["models"][-1]["name"]

            def drop(service: dict[str, Any]) -> None:
                service["spec"]["models"].pop()
                for task in service["spec"]["tasks"]:
                    task["quality"].pop(gone, None)

            rig.edit(SERVICE_KEY, drop)
            await asyncio.sleep(60)
            removed = before.keys() - rig.children().keys()
            assert sorted(key.kind for key in removed) == ["Deployment", "Service"]
            assert {before[k]["metadata"]["uid"] for k in before.keys() & rig.children().keys()} == {
                m["metadata"]["uid"] for m in rig.children().values()
            }, "what stays is never made anew"

    scene(test)


def test_a_service_that_cannot_be_read_is_stalled_and_its_children_stay() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            before = rig.children()
            rig.edit(SERVICE_KEY, lambda service: service["spec"].update(models="none"))
            await rig.settle()
            assert rig.condition("Stalled") == ("True", "Unreadable")
            assert rig.children() == before

    scene(test)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_strangers_object_of_a_childs_name_is_never_touched(labelled: bool) -> None:
    async def test(rig: Rig) -> None:
        labels = {"besteffort.dev/service": "opt"} if labelled else {}
        metadata = {"name": ROUTER.name, "namespace": "apps", "labels": labels}
        stranger = rig.cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {}})
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            assert rig.condition("Stalled") == ("True", "NameTaken")
            assert rig.cluster.objects[ROUTER] == stranger
            assert [key for key in rig.children() if key != ROUTER] == [], "nothing runs beside it"
            rig.remove(ROUTER)
            await rig.settle()
            assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_children_whose_service_was_deleted_without_them_are_taken_over() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        before = {key: child["metadata"]["uid"] for key, child in rig.children().items()}
        for key in before:
            rig.cluster.objects[key]["metadata"].pop("ownerReferences")
        rig.cluster.remove(SERVICE_KEY)
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        assert {key: child["metadata"]["uid"] for key, child in rig.children().items()} == before
        assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_children_of_an_earlier_service_of_that_name_are_waited_for() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        old = rig.cluster.objects.pop(SERVICE_KEY)["metadata"]["uid"]
        rig.apply_service()
        async with rig.operating():
            await asyncio.sleep(120)
            assert all(child["metadata"]["ownerReferences"][0]["uid"] == old for child in rig.children().values())
            for key in [key for key in rig.children() if key in rig.cluster.objects]:
                rig.remove(key)  # the garbage collector, late
            await rig.settle()
            assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_a_paused_service_is_left_as_it_is() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(SERVICE_KEY, lambda live: live["metadata"].update(annotations={"besteffort.dev/paused": "true"}))
            rig.edit(ROUTER, lambda live: live["spec"].update(replicas=0))
            await rig.settle()
            assert rig.cluster.objects[ROUTER]["spec"]["replicas"] == 0
            assert rig.condition("Ready") == ("Unknown", "Paused")
            rig.edit(SERVICE_KEY, lambda live: live["metadata"].pop("annotations"))
            await rig.settle()
            assert rig.cluster.objects[ROUTER]["spec"]["replicas"] > 0

    scene(test)


def test_a_deleted_service_writes_nothing_any_more() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            writes = len(rig.cluster.writes)
            rig.remove(SERVICE_KEY)
            await rig.settle()
            assert rig.children() == {}
            assert len(rig.cluster.writes) == writes

    scene(test)


@pytest.mark.parametrize("bend", ["dropped", "doubled", "swapped"])
def test_a_watch_that_loses_doubles_or_swaps_events_still_ends_in_the_same_state(bend: str) -> None:
    bends: dict[str, Callable[[list[Any]], list[Any]]] = {
        "dropped": lambda events: events[::3],
        "doubled": lambda events: [event for event in events for _ in range(2)],
        "swapped": lambda events: events[::-1],
    }

    async def test(rig: Rig) -> None:
        rig.bend = bends[bend]
        async with rig.operating():
            rig.apply_service()
            await rig.settle()
            rig.remove(ROUTER)
            rig.remove(ACTIVE)
            await rig.settle()
            assert state_of(rig) == wanted
            before = len(rig.cluster.writes)
            await rig.settle()
            assert rig.cluster.writes[before:] == []

    wanted, _ = baseline()
    scene(test)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "done but its answer lost"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whichever_call_fails_once_the_end_is_the_same(error: ClusterError, lost: bool) -> None:
    wanted, calls = baseline()
    for failing in range(1 + ERRORS.index(error), len(calls) + 1, len(ERRORS)):  # together they meet every call

        async def test(rig: Rig, failing: int = failing) -> None:
            rig.cluster.fault = lambda _call, number: error if number == failing else None
            rig.cluster.lose_answer = lost
            rig.apply_service()
            async with rig.operating():
                await rig.settle()
                assert state_of(rig) == wanted, f"call {failing}: {calls[failing - 1]}"
                assert rig.condition("Ready")[0] == "True"
                assert rig.condition("Stalled")[0] == "False"
                assert len(rig.cluster.calls) <= 2 * len(calls) + 20

        scene(test)


@pytest.mark.slow
def test_an_operator_killed_after_any_call_is_followed_by_one_that_ends_the_work() -> None:
    wanted, calls = baseline()
    for last in range(1, len(calls) + 1, 5):

        async def test(rig: Rig, last: int = last) -> None:
            killed = asyncio.Event()

            def fault(_call: Call, number: int) -> ClusterError | None:
                if number > last and not killed.is_set():
                    killed.set()
                    return Unavailable("call", "the operator is dead")
                return None

            rig.cluster.fault = fault
            rig.apply_service()
            async with rig.operating():
                await killed.wait()
            async with rig.operating():
                await rig.settle()
                assert state_of(rig) == wanted, f"killed after call {last}: {calls[last - 1]}"

        scene(test)


def test_five_minutes_of_500_change_nothing_and_are_over_within_a_minute() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            before = rig.children()
            loop = asyncio.get_running_loop()
            down_until = loop.time() + 300
            rig.cluster.fault = lambda *_: Unavailable("call", "500") if loop.time() < down_until else None
            rig.edit(SERVICE_KEY, lambda live: live["spec"]["router"].update(replicas=3))
            await asyncio.sleep(299)
            assert {k: m["metadata"]["uid"] for k, m in rig.children().items()} == {
                k: m["metadata"]["uid"] for k, m in before.items()
            }
            await asyncio.sleep(61)
            assert rig.cluster.objects[ROUTER]["spec"]["replicas"] == 3
            assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_rights_that_are_missing_for_long_are_told_and_mended_by_themselves() -> None:
    async def test(rig: Rig) -> None:
        rig.cluster.fault = lambda call, _: Denied(f"apply {call.key}", "403") if call.verb == "apply" else None
        rig.apply_service()
        async with rig.operating():
            await asyncio.sleep(30)
            assert rig.condition("Stalled")[0] != "True", "just after a restart an API server refuses everybody"
            await asyncio.sleep(120)
            assert rig.condition("Stalled") == ("True", "Denied")
            rig.cluster.fault = lambda *_: None
            await asyncio.sleep(60)
            assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_what_the_api_server_will_not_have_is_told_at_once() -> None:
    async def test(rig: Rig) -> None:
        rig.cluster.fault = lambda call, _: Refused(f"apply {call.key}", "422") if call.key == ROUTER else None
        rig.apply_service()
        async with rig.operating():
            await asyncio.sleep(10)
            assert rig.condition("Stalled") == ("True", "Denied")

    scene(test)


def test_what_others_own_is_looked_for_again_until_it_is_there() -> None:
    service = sample()
    service["spec"]["models"][0]["profile"] = {"configMapRef": {"name": "mine"}}

    async def test(rig: Rig) -> None:
        rig.apply_service(service)
        async with rig.operating():
            await rig.settle()
            assert rig.condition("Stalled") == ("True", "ProfileMissing")

    scene(test)


@pytest.mark.parametrize("told_by", ["the list before the watch", "the supervisor"])
def test_what_vanished_while_nobody_watched_is_noticed_when_the_watch_begins_anew(told_by: str) -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.bend = lambda _events: []
            rig.remove(ROUTER)
            await rig.settle()
            assert ROUTER not in rig.cluster.objects, "nobody has told, and nothing is listed for a long time"
            if told_by == "the supervisor":
                assert rig.began_anew is not None
                rig.began_anew()
            else:
                deployments = [each for key, each in rig.cluster.objects.items() if key.kind == "Deployment"]
                rig.bend = lambda _events: [(each, None) for each in deployments]
                rig.publish()
            await asyncio.sleep(30)
            assert ROUTER in rig.cluster.objects

    async def whole() -> None:
        await test(Rig(SETTINGS.model_copy(update={"resync_seconds": 1e7})))

    run(whole())
