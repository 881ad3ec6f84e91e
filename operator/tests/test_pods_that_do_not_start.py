"""A whole operation beside pods that try again and again: what it says of them, and that it says it once."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from operation_rig import Rig
from pod_samples import NO_GPU, NOT_FOUND, crashing, pod_of, unschedulable, waiting
from virtual_time import run

from bes_operator.manifest import Key
from bes_operator.names import engine_name

MODEL = Key("Deployment", "apps", engine_name("opt", "opt-125m"))
STALLS, WAITS = ("True", "PodsCannotStart"), ("False", "NotStalled")
LOOPS: dict[str, tuple[Sequence[dict[str, Any]], tuple[str, str], str]] = {
    "a container that ends": (
        [crashing(restarts, step) for restarts in range(3, 30) for step in (2, 0, 1)],
        STALLS,
        "container engine ends again and again (exit code 1)",
    ),
    "an image that is not there": (
        [waiting("ErrImagePull", NOT_FOUND), waiting("ImagePullBackOff", 'Back-off pulling image "localhost/nope:1"')]
        * 20,
        STALLS,
        "image localhost/nope:1 cannot be pulled",
    ),
    "no GPU on however many nodes": (
        [unschedulable(NO_GPU.format(nodes=nodes)) for nodes in range(1, 40)],
        WAITS,
        "no node takes its pod (Insufficient nvidia.com/gpu)",
    ),
}


def scene(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await test(Rig())

    run(whole())


def unavailable(live: dict[str, Any]) -> None:
    live["status"]["availableReplicas"] = 0


def message(rig: Rig) -> str:
    found: str = next(each["message"] for each in rig.status()["conditions"] if each["type"] == "Ready")
    return found


@pytest.mark.parametrize("loop", LOOPS)
def test_pods_that_try_again_and_again_are_told_once_and_nothing_more_is_written(loop: str) -> None:
    statuses, stalled, words = LOOPS[loop]

    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(MODEL, unavailable)
            deployment, born = rig.cluster.objects[MODEL], rig.now()
            rig.put(pod_of(deployment, born, **statuses[0])[1])
            await asyncio.sleep(90)
            assert rig.condition("Stalled") == stalled
            assert words in message(rig)
            calls, told = len(rig.cluster.calls), rig.status()
            for status in statuses:
                rig.put(pod_of(deployment, born, **status)[1])
                await asyncio.sleep(7)
            later = rig.cluster.calls[calls:]
            assert [call for call in later if call.writes] == []
            assert all(call.verb == "list" for call in later), "only the resync asks anything"
            assert rig.status() == told

    scene(test)


def test_a_service_recovers_as_soon_as_its_pods_start() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(MODEL, unavailable)
            key, pod = pod_of(rig.cluster.objects[MODEL], rig.now(), **waiting("CreateContainerConfigError", "no key"))
            rig.put(pod)
            await asyncio.sleep(30)
            assert rig.condition("Reconciling") == ("True", "Waiting")
            assert "container engine cannot be made (no key)" in message(rig)
            await asyncio.sleep(40)
            assert rig.condition("Stalled") == STALLS, "without an event: its patience has ended"
            rig.remove(key)
            rig.edit(MODEL, lambda live: live["status"].update(availableReplicas=live["spec"]["replicas"]))
            await asyncio.sleep(5)
            assert (rig.condition("Ready")[0], rig.condition("Stalled")) == ("True", WAITS)

    scene(test)


def test_a_person_hears_once_of_pods_that_cannot_start() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(MODEL, unavailable)
            for restarts in range(3, 20):
                rig.put(pod_of(rig.cluster.objects[MODEL], rig.now(), 0, **crashing(restarts, 0))[1])
                await asyncio.sleep(61)
        events = [each for key, each in rig.cluster.objects.items() if key.kind == "Event"]
        assert [each["type"] for each in events if each["reason"] == "PodsCannotStart"] == ["Warning"]

    scene(test)
