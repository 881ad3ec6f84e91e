"""What each condition of a service is, and why: one function per condition, each of everything that was seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from bes_api.conditions import ConditionStatus, ConditionType, Reason
from bes_api.config_map import data_digest, files_in
from bes_api.router_status import RouterStatus
from bes_operator.desired.request import Complaint
from bes_operator.hindrances import hindrance_of, stall_in_seconds
from bes_operator.labels import Component
from bes_operator.live import ready_addresses, ready_of, rollout_of
from bes_operator.manifest import Key, Manifest, key_of
from bes_operator.names import engine_name, router_name
from bes_operator.ownership import held_by, is_leaving
from bes_operator.seen import Seen

YOUNG_SECONDS = 60.0
"""A router that has just started need not know any figure yet."""
FRESH_POLLS = 3
"""A router that has said nothing for so many polls is out of reach."""
MEND = "kubectl describe and kubectl logs --previous say more of its pods"
PAUSED = "nothing is applied while the annotation besteffort.dev/paused is true: remove it"
SCRAPE = (
    "check that it scrapes the pods with label besteffort.dev/component=engine at their port http, and gives their "
    "series the label pod"
)
_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True)
class Verdict:
    """A condition without its times."""

    status: ConditionStatus
    reason: Reason
    message: str = ""


def verdicts(seen: Seen) -> dict[ConditionType, Verdict]:
    """Every condition, in the order in which they are listed; PolicyReady only where its way was planned."""
    stalled = _stalled(seen)
    waits = _waits(seen) if stalled.status is _FALSE else None
    found = {
        ConditionType.AVAILABLE: _available(seen),
        ConditionType.READY: _ready(seen, stalled, waits),
        ConditionType.RECONCILING: _reconciling(seen, stalled, waits),
        ConditionType.STALLED: stalled,
    }
    if seen.policy is not None:
        plan = seen.policy
        found[ConditionType.POLICY_READY] = Verdict(plan.ready, plan.reason, plan.message)
    found[ConditionType.LOAD_FIGURES] = _load_figures(seen)
    found[ConditionType.QUALITY_REDUCED] = _quality_reduced(seen)
    return found


def until_stalled(seen: Seen) -> list[float]:
    """In how many seconds pods that do not start will have been waited for long enough."""
    waits = (stall_in_seconds(deployment, seen.live, seen.now) for _, deployment in _deployments(seen))
    return [wait for wait in waits if wait is not None and wait > 0]


def _available(seen: Seen) -> Verdict:
    if not ready_addresses(seen.live, router_name(seen.name)):
        return Verdict(_FALSE, Reason.NO_ROUTER, "no router is ready")
    if not ready_of(seen.live, Component.ENGINE):
        return Verdict(_FALSE, Reason.NO_ENGINE, "no engine is ready; routers answer 503 with Retry-After")
    return Verdict(_TRUE, Reason.SERVING, "a router and at least one engine are ready")


def _ready(seen: Seen, stalled: Verdict, waits: Verdict | None) -> Verdict:
    if stalled.status is _TRUE:
        return Verdict(_FALSE, stalled.reason, stalled.message)
    if seen.paused:
        return Verdict(_UNKNOWN, Reason.PAUSED, PAUSED)
    if waits is not None:
        return Verdict(_FALSE, waits.reason, waits.message)
    return Verdict(_TRUE, Reason.AS_DESIRED, "everything that is desired is there")


def _reconciling(seen: Seen, stalled: Verdict, waits: Verdict | None) -> Verdict:
    if stalled.status is _TRUE:
        return Verdict(_FALSE, stalled.reason)
    if seen.paused:
        return Verdict(_FALSE, Reason.PAUSED)
    return waits or Verdict(_FALSE, Reason.AS_DESIRED)


def _stalled(seen: Seen) -> Verdict:
    """Whatever only a person can mend, the gravest first: complaints are in the order in which they were met."""
    found = [each for each in _complaints(seen) if each.condition is ConditionType.STALLED]
    if found:
        return Verdict(_TRUE, found[0].reason, "; ".join(dict.fromkeys(each.message for each in found)))
    if hindered := _hindered(seen):
        return Verdict(_TRUE, Reason.PODS_CANNOT_START, "; ".join(hindered))
    for key, deployment in _deployments(seen):
        stuck = rollout_of(deployment).stuck
        if stuck is not None:
            why = _why(seen, deployment) or f"{stuck.rstrip('.')}; look at its pods (kubectl describe)"
            return Verdict(_TRUE, Reason.PROGRESS_DEADLINE_EXCEEDED, f"{_said(seen, key)}: {why}")
    return Verdict(_FALSE, Reason.NOT_STALLED, "nothing waits for a person")


def _hindered(seen: Seen) -> list[str]:
    """Whose pods only a person can help, and why; in the order of their names."""
    found = ((key, each, stall_in_seconds(each, seen.live, seen.now)) for key, each in _deployments(seen))
    return [
        f"{_said(seen, key)}: {_why(seen, each)}; {MEND}" for key, each, wait in found if wait is not None and wait <= 0
    ]


def _why(seen: Seen, deployment: Manifest) -> str:
    """What keeps its pods from being ready; "" where they do not say."""
    hindrance, before = hindrance_of(deployment, seen.live), seen.previous.condition(ConditionType.READY)
    return "" if hindrance is None else hindrance.after(before.message if before is not None else "")


def _waits(seen: Seen) -> Verdict | None:
    """What the desired state waits for; None: for nothing."""
    for complaint in _complaints(seen):
        if complaint.condition is ConditionType.RECONCILING:
            return Verdict(_TRUE, complaint.reason, complaint.message)
    if seen.wanted is None:
        return None if seen.paused else Verdict(_TRUE, Reason.NEW_GENERATION, "the operator has begun")
    keys = [key_of(intent) for intent in seen.wanted.manifests]
    for key in keys:
        if key in seen.live and is_leaving(seen.live[key]):
            held = held_by(seen.live[key])
            return Verdict(_TRUE, Reason.WAITING, f"{key} is being deleted, and made anew then{held and f'; {held}'}")
    live = dict(_deployments(seen))
    deployments = [key for key in keys if key.kind == "Deployment"]
    found = (
        (_cannot_start(seen, key, live) for key in deployments),
        (_rolling_out(seen, key, live) for key in deployments if key in live and _why(seen, live[key])),
        (_rolling_out(seen, key, live) for key in deployments),
    )
    verdict = next((verdict for verdict in chain(*found) if verdict is not None), None)
    return verdict or _configuration_on_its_way(seen)


def _cannot_start(seen: Seen, key: Key, live: dict[Key, Manifest]) -> Verdict | None:
    """Said before what only takes its time: somebody has to do something."""
    rollout = rollout_of(live[key]) if key in live else None
    if rollout is None or rollout.done or rollout.failure is None:
        return None
    return Verdict(_TRUE, Reason.WAITING, f"{_said(seen, key)}: pods cannot be made: {rollout.failure}")


def _rolling_out(seen: Seen, key: Key, live: dict[Key, Manifest]) -> Verdict | None:
    if key not in live:
        return Verdict(_TRUE, Reason.ROLLING_OUT, f"{_said(seen, key)} is being made")
    rollout = rollout_of(live[key])
    if rollout.done:
        return None
    why = _why(seen, live[key])
    if not rollout.settled or rollout.updated < rollout.desired:
        return Verdict(_TRUE, Reason.ROLLING_OUT, f"{_said(seen, key)} is being rolled out{why and f': {why}'}")
    message = f"{_said(seen, key)}: {rollout.available} of {rollout.desired} pods are ready{why and f': {why}'}"
    return Verdict(_TRUE, Reason.WAITING, message)


def _configuration_on_its_way(seen: Seen) -> Verdict | None:
    """Routers follow their mounted configuration; kubelets bring it within a minute or so.

    Once this generation was ready, a configuration that only says another policy does not disturb that.
    """
    key = Key("ConfigMap", seen.namespace, router_name(seen.name))
    intent = next((each for each in seen.wanted.manifests if key_of(each) == key), None) if seen.wanted else None
    if intent is None:
        return None
    wanted = data_digest(files_in(intent))
    before = seen.previous.condition(ConditionType.READY)
    reached = before is not None and before.status is _TRUE and before.observed_generation == seen.generation
    for name, status in fresh_routers(seen):
        if status.configuration.refused_digest == wanted:
            message = f"router {name} refuses its configuration: {status.configuration.problem}"
            return Verdict(_TRUE, Reason.ROLLING_OUT, message)
        if not reached and status.configuration.digest != wanted:
            return Verdict(_TRUE, Reason.ROLLING_OUT, "routers have yet to take their configuration")
    return None


def _load_figures(seen: Seen) -> Verdict:
    """Messages hold no counts, which would change with every poll."""
    for complaint in _complaints(seen):
        if complaint.condition is ConditionType.LOAD_FIGURES:
            return Verdict(_FALSE, complaint.reason, complaint.message)
    asked = [status for _, status in fresh_routers(seen) if status.backends_ready > 0]
    told = [status for status in asked if not _lacks_figures(status) or status.uptime_seconds > YOUNG_SECONDS]
    if not told:
        return Verdict(_UNKNOWN, Reason.ROUTERS_UNREACHABLE, "no router with engines has said anything lately")
    lacking = [status.load for status in told if _lacks_figures(status)]
    if not lacking:
        return Verdict(_TRUE, Reason.FIGURES_FRESH, "routers know the load of every engine")
    worst = min(lacking, key=lambda load: load.known)
    why = next((load.problem for load in lacking if load.problem), None) or _usual_cause(worst.source)
    if worst.known == 0:
        return Verdict(_FALSE, Reason.FIGURES_ABSENT, f"no load figures: {why}; decisions rest on own counts alone")
    return Verdict(_FALSE, Reason.FIGURES_OLD, f"some engines' load figures are old or absent: {why}")


def _lacks_figures(status: RouterStatus) -> bool:
    """Engines that are not ready may still load; nobody asks them."""
    return status.load.known < status.backends_ready


def _usual_cause(source: str) -> str:
    if source == "prometheus":
        return f"Prometheus has none that are fresh; {SCRAPE}"
    return "engines' metrics pages do not answer in time"


def _quality_reduced(seen: Seen) -> Verdict:
    if seen.service is None:
        return Verdict(_UNKNOWN, Reason.UNREADABLE)
    names = [model.name for model in seen.service.spec.models]
    down = [name for name in names if not ready_addresses(seen.live, engine_name(seen.name, name))]
    if down:
        meanwhile = "others answer instead" if len(down) < len(names) else "nothing can answer"
        return Verdict(_TRUE, Reason.MODEL_DOWN, f"no engine is ready of {', '.join(down)}: {meanwhile}")
    for name, status in fresh_routers(seen):
        if status.policy.fallback and status.policy.digest is None and status.policy.reason not in {None, "absent"}:
            return Verdict(
                _TRUE, Reason.FALLBACK, f"router {name} decides by the fallback rule: {status.policy.problem}"
            )
    return Verdict(_FALSE, Reason.FULL_QUALITY, "every model has ready engines")


def fresh_routers(seen: Seen) -> Iterator[tuple[str, RouterStatus]]:
    """Routers that have said something lately."""
    limit = FRESH_POLLS * seen.settings.router_poll_seconds
    for router in seen.routers:
        if router.status is not None and router.age_seconds <= limit:
            yield router.name, router.status


def _complaints(seen: Seen) -> tuple[Complaint, ...]:
    return (*seen.complaints, *(seen.wanted.complaints if seen.wanted is not None else ()))


def _deployments(seen: Seen) -> Iterator[tuple[Key, Manifest]]:
    return ((key, manifest) for key, manifest in sorted(seen.live.items()) if key.kind == "Deployment")


def _said(seen: Seen, key: Key) -> str:
    """A Deployment as a person thinks of it."""
    if key.name == router_name(seen.name):
        return "the router"
    models = seen.service.spec.models if seen.service is not None else ()
    name = next((model.name for model in models if engine_name(seen.name, model.name) == key.name), None)
    return f"model {name}" if name is not None else str(key)
