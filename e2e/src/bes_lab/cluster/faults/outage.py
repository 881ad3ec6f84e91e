"""An API server that answers 500 to everything for minutes, while a child vanishes and the service is changed."""

import asyncio
from dataclasses import dataclass

from bes_lab.cluster.faults.asking import SERVICE, until
from bes_lab.cluster.faults.stage import DEFAULTS, Stage
from bes_lab.errors import ClusterError
from bes_operator.kinds import KINDS
from bes_operator.names import router_name

RECOVERY_SECONDS = 300.0
_ROUTERS = 3
_LATER_SECONDS = 20.0


@dataclass(frozen=True)
class Outage:
    """What came of it."""

    asked: int
    """Requests during the outage."""
    recovered_seconds: float
    """From when it answered well again until children were as the service says and the status said so."""
    replaced: int
    """Children that are others than before, the one that was deleted by hand apart; and DELETEs that were asked."""
    trained: int
    """Training Jobs that are new."""
    ended: bool
    """Whether the operator's process was not the same all the time."""


async def outage(stage: Stage, seconds: float) -> Outage:
    """One operator with the settings that it has by default. ClusterError: it does not recover at all."""
    async with stage.operator(DEFAULTS) as operator:
        ask, namespace, proxy = stage.ask, operator.namespace, operator.proxy
        await ask.apply_service(namespace)
        operator.start()

        async def made() -> bool:
            found = await ask.children(namespace)
            return any(key.kind == "Job" for key in found) and await _told(stage, namespace)

        await until(made, "the service is made before the outage", RECOVERY_SECONDS)
        before = {key: child["metadata"]["uid"] for key, child in (await ask.children(namespace)).items()}
        lost = next(key for key in before if key.kind == "Deployment" and key.name != router_name(SERVICE))
        proxy.break_all()
        proxy.clear()
        await ask.delete(namespace, lost.kind, lost.name)
        await ask.apply_service(namespace, routers=_ROUTERS)
        await asyncio.sleep(seconds)
        asked, ended = len(proxy.calls), not operator.runs()
        proxy.mend()

        async def recovered() -> bool:
            router = await ask.call("GET", KINDS["Deployment"].path(namespace, router_name(SERVICE))) or {}
            made_again = await ask.uid(namespace, lost.kind, lost.name) not in ("", before[lost])
            return made_again and router["spec"]["replicas"] == _ROUTERS and await _told(stage, namespace)

        try:
            recovered_seconds = await until(recovered, "the operator has recovered", RECOVERY_SECONDS)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{operator.said()}") from None
        await asyncio.sleep(_LATER_SECONDS)  # what is wrongly deleted or trained may come a little later
        after = {key: child["metadata"]["uid"] for key, child in (await ask.children(namespace)).items()}
        deletes = sum(call.verb == "delete" for call in proxy.calls)
        return Outage(
            asked=asked,
            recovered_seconds=recovered_seconds,
            replaced=deletes + sum(after.get(key) != uid for key, uid in before.items() if key != lost),
            trained=len([key for key in after if key.kind == "Job" and after[key] != before.get(key)]),
            ended=ended or not operator.runs(),
        )


async def _told(stage: Stage, namespace: str) -> bool:
    service = await stage.ask.service(namespace)
    return bool((service.get("status") or {}).get("observedGeneration") == service["metadata"]["generation"])
