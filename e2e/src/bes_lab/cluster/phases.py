"""What a service on a cluster goes through, one thing at a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bes_lab.cluster.installation import OPERATORS, RELEASE
from bes_lab.cluster.stage import AT_ONCE, HEAL_SECONDS, OUTAGE_SECONDS, Stage

KILLED_SECONDS = 3.0
NOTHING = "== 0"
COUNTED = None
API_SERVER, ETCD = "kube-apiserver", "etcd"


@dataclass(frozen=True)
class Phase:
    """One thing that happens; ``bar`` is for requests that were not answered, None where they are only counted.

    ``act`` returns how many seconds what it deleted was away, None where it deleted nothing that the operator makes.
    """

    name: str
    title: str
    act: Callable[[Stage], float | None]
    bar: str | None = NOTHING
    readdressed: bool = False
    """The routers' Service gets another address: clients of the old one could tell nothing."""


def _policy_and_back(stage: Stage) -> None:
    model = stage.on.scenario.models[0].name
    stage.patch(f'{{"spec": {{"policy": {{"type": "Static", "static": {{"model": "{model}"}}}}}}}}')
    stage.on.until("the other policy decides", stage.whole, HEAL_SECONDS)
    stage.patch('{"spec": {"policy": {"type": "DeadlineAware", "static": null}}}')


def _scaled(stage: Stage) -> None:
    asked = stage.on.service.spec.router.replicas
    for replicas in (asked + 1, asked):
        stage.patch(f'{{"spec": {{"router": {{"replicas": {replicas}}}}}}}')
        stage.on.until(f"there are {replicas} routers", stage.whole, HEAL_SECONDS)


def _without_prometheus(stage: Stage) -> None:
    name = f"{RELEASE}-best-effort-serving-prometheus"
    for replicas in (0, 1):
        stage.on.cluster.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}", f"--namespace={OPERATORS}")
        time.sleep(OUTAGE_SECONDS)


def _leader_killed(stage: Stage) -> float:
    operators = (f"--namespace={OPERATORS}",)
    lease = stage.on.cluster.kubectl("get", "lease", "--output=jsonpath={.items[*].spec.holderIdentity}", *operators)
    stage.on.cluster.kubectl("delete", "pod", lease.split("_", maxsplit=1)[0], *AT_ONCE, *operators)
    time.sleep(KILLED_SECONDS)  # the kubelet ends it: it must not be the one that heals
    return stage.recreated("configmap", f"{stage.name}-router")


def phases() -> list[Phase]:
    """In order; those that cut connections come last."""
    router, engine = "besteffort.dev/component=router", "besteffort.dev/component=engine"

    def by_hand(stage: Stage) -> None:
        stage.kubectl("set", "env", f"deployment/{stage.name}-router", "--containers=router", "BY_HAND=1")
        stage.kubectl("scale", f"deployment/{stage.name}-router", "--replicas=1")
        stage.on.until("what was scaled by hand is undone", stage.routers_as_asked, HEAL_SECONDS)

    def rights(stage: Stage) -> float:
        kinds = ("rolebinding", "serviceaccount", "poddisruptionbudget")
        return max(stage.recreated(kind, f"{stage.name}-router") for kind in kinds)

    return [
        Phase("router-rollout", "the routers are replaced", lambda stage: stage.roll(f"{stage.name}-router")),
        Phase("model-rollout", "a model with two replicas is replaced", lambda s: s.roll(s.deployment(s.twins[0]))),
        Phase("engine-pods", "every engine's pod is deleted, one at a time", lambda s: s.delete_in_turn(engine)),
        Phase("router-pods", "every router's pod is deleted, one at a time", lambda s: s.delete_in_turn(router)),
        Phase("by-hand", "the routers' Deployment is edited and scaled by hand", by_hand),
        Phase("configuration", "the configuration is deleted", lambda s: s.recreated("configmap", f"{s.name}-router")),
        Phase("policy-folder", "the policy is deleted", lambda s: s.recreated("configmap", f"{s.name}-active")),
        Phase("rights", "binding, account and disruption budget are deleted", rights),
        Phase("policy-switch", "another policy, and back", _policy_and_back),
        Phase("router-scale", "a router more is asked for, and one less again", _scaled),
        Phase("leader", "the leading operator is killed, and a child deleted", _leader_killed),
        Phase("prometheus", "Prometheus is gone and comes back", _without_prometheus),
        Phase("api-server", "kill -9 of the API server", lambda stage: stage.outage(API_SERVER)),
        Phase("etcd", "kill -9 of etcd", lambda stage: stage.outage(ETCD)),
        Phase(
            "engine-killed", "an engine of two is killed at once",
            lambda stage: stage.kill(stage.names("pods", engine)[-1]),
            COUNTED,
        ),
        Phase(
            "router-killed", "a router of two is killed at once",
            lambda stage: stage.kill(stage.names("pods", router)[0]),
            COUNTED,
        ),
        Phase(
            "router-deployment", "the routers' Deployment is deleted",
            lambda stage: stage.recreated("deployment", f"{stage.name}-router"), COUNTED,
        ),
        Phase(
            "router-service", "the routers' Service is deleted",
            lambda stage: stage.recreated("service", f"{stage.name}-router"), COUNTED, readdressed=True,
        ),
    ]  # fmt: skip
