"""A child is changed and deleted behind the operator's back, while the watch of its kind is down or tells nonsense."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from bes_lab.cluster.disturbed_watches import Watches
from bes_lab.cluster.faults.asking import SERVICE, until
from bes_lab.cluster.faults.cases import Say, Verdict
from bes_lab.cluster.faults.stage import QUICK, Operator, Outcome, Stage
from bes_lab.errors import ClusterError
from bes_operator.kinds import KINDS

RESYNC_SECONDS = 15.0
HEALED_SECONDS = 90.0
HELD_EVENTS = 2
_LATE_SECONDS = 3.0
DELETED: Mapping[str, str] = {
    "ConfigMap": f"{SERVICE}-router",
    "Secret": f"{SERVICE}-router-admin",
    "Service": f"{SERVICE}-router",
    "ServiceAccount": f"{SERVICE}-router",
    "Deployment": f"{SERVICE}-router",
    "PodDisruptionBudget": f"{SERVICE}-router",
    "RoleBinding": f"{SERVICE}-router",
}
"""One child of each kind. No Job: one that a person deletes is a decision, and is not simply made again."""

Trouble = Callable[[Watches, str], Awaitable[object]]


async def _dropped(watches: Watches, kind: str) -> None:
    watches.drop(kind)
    await watches.release(kind)


async def _expired(watches: Watches, kind: str) -> None:
    await watches.error(kind, 410)
    await watches.release(kind)


async def _failed(watches: Watches, kind: str) -> None:
    await watches.error(kind, 500)
    await watches.release(kind)


async def _late(watches: Watches, kind: str) -> None:
    await asyncio.sleep(_LATE_SECONDS)
    await watches.release(kind)


async def _shuffled(watches: Watches, kind: str) -> None:
    await watches.release(kind, shuffled=True)


TROUBLES: Mapping[str, Trouble] = {
    "a dropped watch": _dropped,
    "ERROR 410": _expired,
    "ERROR 500": _failed,
    "late events": _late,
    "events twice, the oldest last": _shuffled,
}


WATCH_CASES = tuple((kind, trouble) for trouble in TROUBLES for kind in DELETED)


async def play_watches(stage: Stage, wanted: Outcome, cases: Iterator[tuple[str, str]], say: Say) -> list[Verdict]:
    """One operator, one service; one kind and trouble after the other."""
    found = []
    async with stage.operator((*QUICK, "--resync-seconds", str(RESYNC_SECONDS))) as operator:
        await stage.ask.apply_service(operator.namespace)
        operator.start()

        async def made() -> bool:
            return not await stage.problems(operator.namespace, wanted)

        await until(made, "the service is made before its watches are disturbed")
        for kind, trouble in cases:
            found.append(await _one(stage, operator, kind, trouble))
            say(f"{found[-1].case}: {found[-1].seconds:.1f} s: {'; '.join(found[-1].problems) or 'healed'}")
        if problems := await stage.settled(operator, wanted):
            found.append(Verdict("after all watch troubles", "", problems, 0, 0.0))
    return found


async def _one(stage: Stage, operator: Operator, kind: str, trouble: str) -> Verdict:
    ask, namespace, proxy, watches = stage.ask, operator.namespace, operator.proxy, operator.proxy.watches
    plural, name = KINDS[kind].plural, DELETED[kind]
    before = await ask.uid(namespace, kind, name)
    proxy.clear()

    async def watched() -> bool:
        return watches.watched(plural)

    async def held() -> bool:
        return watches.held(plural) >= HELD_EVENTS or await healed()

    async def healed() -> bool:
        return await ask.uid(namespace, kind, name) not in ("", before)

    problems: tuple[str, ...] = ()
    began = time.monotonic()
    try:
        await until(watched, f"{plural} are watched")
        watches.hold(plural)
        await ask.label(namespace, kind, name, trouble.replace(" ", "-").replace(",", ""))
        await ask.delete(namespace, kind, name)
        await until(held, f"events of {plural} are held back")
        began = time.monotonic()
        await TROUBLES[trouble](watches, plural)
        await until(healed, f"{kind} {name} is there again", HEALED_SECONDS)
    except ClusterError as error:
        problems = (str(error), operator.said())
    finally:
        await watches.release(plural)
    seconds = time.monotonic() - began
    return Verdict(f"{kind} deleted behind {trouble}", f"watch {plural}", problems, proxy.about_services(), seconds)
