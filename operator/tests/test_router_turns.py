"""When routers are asked, on jumping time: soon while they have news to take, ever later, and then as usual."""

import asyncio
import math
from itertools import pairwise

import pytest
from desired_samples import EMULATED, request_for
from operation_rig import SERVICE_KEY, Rig
from status_samples import router_status
from virtual_time import run

from bes_api.config_map import data_digest, files_in
from bes_operator.desired.configuration import ADMIN_PORT
from bes_operator.desired.objects import desired_objects
from bes_operator.manifest import Key
from bes_operator.observed import Observed
from bes_operator.routers import Router, Routers, Targets, Told
from bes_operator.view import targets

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
USUAL = 30.0
DELIVERING = {"conditions": [{"type": "PolicyReady", "reason": "Delivering"}]}
ROUTER = Router("pod", "127.0.0.1", ADMIN_PORT)


class Answering(Routers):
    """Its router takes what lies there for it, or refuses it, ``late`` seconds after the change; or never answers."""

    def __init__(self, changes_at: float, late: float, refuses: bool, dumb: bool) -> None:
        super().__init__(self._there, lambda _: None, lambda _: None, USUAL, 5.0)
        self.asked: list[float] = []
        self._began = asyncio.get_running_loop().time()
        self._changes_at, self._late, self._refuses, self._dumb = changes_at, late, refuses, dumb

    def _seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def _there(self) -> dict[Key, Targets]:
        return {SERVICE_KEY: Targets((ROUTER,), "secret", NEW if self._seconds() >= self._changes_at else OLD)}

    async def _ask(self, _session: object, service: Key, router: Router, _token: str) -> None:
        self.asked.append(self._seconds())
        has = self._seconds() >= self._changes_at + self._late
        configuration = {"digest": NEW if has and not self._refuses else OLD}
        if has and self._refuses:
            configuration |= {"refused_digest": NEW, "problem": "too new"}
        if not self._dumb:
            told = Told(router_status(configuration=configuration), asyncio.get_running_loop().time())
            self._told[service, router.name] = told


def asked(
    seconds: float, late: float = math.inf, changes_at: float = 100.0, refuses: bool = False, dumb: bool = False
) -> list[float]:
    """When, since the beginning."""

    async def test() -> list[float]:
        routers = Answering(changes_at, late, refuses, dumb)
        running = asyncio.create_task(routers.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return routers.asked

    return run(test())


def test_who_has_all_that_there_is_to_take_is_asked_as_usual() -> None:
    found = asked(600.0, changes_at=math.inf)
    assert found[0] < 1.0
    assert all(USUAL <= after - before <= USUAL + 4.0 for before, after in pairwise(found))


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("late", [1.0, 6.0, 20.0, 75.0])
def test_what_a_router_takes_or_refuses_is_noticed_soon_and_then_it_is_asked_as_usual(
    late: float, refuses: bool
) -> None:
    since = [at - 100.0 for at in asked(600.0, late, refuses=refuses) if at >= 100.0]
    noticed = next(at for at in since if at >= late)
    assert noticed <= 1.5 * late + 7.0
    assert len([at for at in since if at <= noticed]) <= 12
    later = [at for at in since if at > noticed]
    assert later[0] >= noticed + USUAL
    assert len(later) <= 500.0 / USUAL


@pytest.mark.parametrize("dumb", [False, True])
def test_who_never_takes_it_or_never_answers_is_soon_asked_no_more_often_than_others(dumb: bool) -> None:
    found = asked(1100.0, dumb=dumb)
    assert len(found) <= 1100.0 / USUAL + 20
    assert found[-1] - found[-2] >= USUAL


def test_what_routers_shall_take_is_what_lies_in_their_config_map_and_a_policy_on_its_way() -> None:
    async def test() -> tuple[Targets, Targets, Targets]:
        rig, wanted = Rig(), desired_objects(request_for(EMULATED)).manifests
        service = {"kind": "BestEffortService", "metadata": {"name": "demo", "namespace": "apps"}}
        endpoints = [{"addresses": ["127.0.0.1"], "targetRef": {"name": "pod"}}]
        router = next(each for each in wanted if each["kind"] == "Deployment" and each["metadata"]["name"] == name)
        labels = {**router["metadata"]["labels"], "kubernetes.io/service-name": name}
        metadata = {"name": f"{name}-x", "namespace": "apps", "labels": labels}
        for each in (*wanted, service, {"kind": "EndpointSlice", "metadata": metadata, "endpoints": endpoints}):
            rig.cluster.put(each)
        observed = Observed(rig.cluster, ())
        key = Key("BestEffortService", "apps", "demo")
        found = []
        for change in (None, "broken", "delivering"):
            if change == "broken":
                rig.cluster.edit(configuration, lambda live: live.update(binaryData={"x": "?"}))
            if change == "delivering":
                rig.cluster.edit(key, lambda live: live.update(status=DELIVERING))
            await observed.list_all()
            found.append(targets(observed)[key])
        return found[0], found[1], found[2]

    name, configuration = "demo-router", Key("ConfigMap", "apps", "demo-router")
    first, broken, delivering = run(test())
    intent = next(
        each
        for each in desired_objects(request_for(EMULATED)).manifests
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name
    )
    digest = data_digest(files_in(intent))
    assert (first.configuration, first.delivering) == (digest, False)
    assert (broken.configuration, broken.delivering) == (None, False)
    assert delivering.delivering
    assert first.awaited_of(router_status(configuration={"digest": OLD}))
    assert not first.awaited_of(router_status(configuration={"digest": digest}))
    assert delivering.awaited_of(router_status(configuration={"digest": digest}))
