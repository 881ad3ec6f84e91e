"""What others do to a service's objects, and what it is told of it: bindings, finalizers, what cannot be changed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from desired_samples import SETTINGS
from operation_rig import SERVICE_KEY, Rig, sample
from virtual_time import run

from bes_operator.manifest import Key

ROUTER = Key("Deployment", "apps", "opt-router")
BINDING = Key("RoleBinding", "apps", "opt-router")
CONFIGURATION = Key("ConfigMap", "apps", "opt-router")


def scene(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await test(Rig())

    run(whole())


def message(rig: Rig, name: str) -> str:
    found: str = next(each["message"] for each in rig.status()["conditions"] if each["type"] == name)
    return found


def test_a_release_of_another_name_brings_another_role_and_every_binding_follows() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        before = {key: child["metadata"]["uid"] for key, child in rig.children().items()}
        rig.settings = SETTINGS.model_copy(update={"router_role": "another-router"})
        async with rig.operating():
            await rig.settle()
            assert rig.cluster.objects[BINDING]["roleRef"]["name"] == "another-router"
            assert rig.condition("Ready")[0] == "True"
        after = {key: child["metadata"]["uid"] for key, child in rig.children().items()}
        assert [key for key in before if before[key] != after[key]] == [BINDING]

    scene(test)


def test_a_child_that_a_strangers_finalizer_holds_is_told_with_whose_it_is() -> None:
    def delete(live: dict[str, Any]) -> None:
        live["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["somebody.example/else"]}

    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(CONFIGURATION, delete)
            await asyncio.sleep(30)
            assert rig.condition("Ready") == ("False", "Waiting")
            assert "ConfigMap apps/opt-router is being deleted" in message(rig, "Ready")
            assert "held by somebody.example/else" in message(rig, "Ready")
            rig.remove(CONFIGURATION)
            await asyncio.sleep(30)
            assert rig.condition("Ready")[0] == "True"

    scene(test)


def test_what_an_earlier_service_left_behind_a_finalizer_is_waited_for_by_that_name() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
        rig.cluster.objects[ROUTER]["metadata"]["finalizers"] = ["somebody.example/else"]
        rig.cluster.objects[SERVICE_KEY]["metadata"]["uid"] = "the next one's"
        for key in [key for key in rig.children() if key not in (ROUTER, SERVICE_KEY)]:
            rig.cluster.objects.pop(key, None)
        async with rig.operating():
            await asyncio.sleep(120)
            assert rig.condition("Reconciling") == ("True", "Waiting")
            assert "held by somebody.example/else" in message(rig, "Reconciling")

    scene(test)


def test_what_cannot_be_changed_is_told_with_the_mend() -> None:
    async def test(rig: Rig) -> None:
        rig.apply_service()
        async with rig.operating():
            await rig.settle()
            rig.edit(CONFIGURATION, lambda live: live.update(immutable=True))
            rig.edit(SERVICE_KEY, lambda live: live["spec"]["tasks"][0].update(tokens={"prompt": 64, "output": 16}))
            await asyncio.sleep(30)
            assert rig.condition("Stalled") == ("True", "Denied")
            assert "delete it, and it is made anew" in message(rig, "Stalled")
            rig.remove(CONFIGURATION)
            await asyncio.sleep(60)
            assert rig.condition("Stalled")[0] == "False"

    scene(test)


def test_an_imported_artifact_that_comes_late_is_noticed_long_before_the_resync() -> None:
    service = sample()
    imported = {"configMapName": "mine", "digest": "sha256:" + 64 * "a"}
    fallback = {"type": "DeadlineAware"}
    service["spec"]["policy"] = {"type": "Learned", "fallback": fallback, "source": {"imported": imported}}

    async def test(rig: Rig) -> None:
        rig.apply_service(service)
        async with rig.operating():
            await asyncio.sleep(30)
            assert "no ConfigMap" in message(rig, "PolicyReady")
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "apps", "name": "mine"}}
            rig.cluster.put({**made, "data": {"passport.json": "{}"}})
            await asyncio.sleep(60)
            assert "another artifact" in message(rig, "PolicyReady")
            before = len(rig.cluster.writes)
            await asyncio.sleep(200)
            assert rig.cluster.writes[before:] == [], "looking again writes nothing"

    run_slowly(test)


def run_slowly(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await test(Rig(SETTINGS.model_copy(update={"resync_seconds": 1e7})))

    run(whole())
