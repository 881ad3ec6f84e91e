"""From everything that was seen of a service to its status, and to what of a change a person would want to hear."""

from collections.abc import Mapping
from datetime import datetime

from bes_api.conditions import Condition, ConditionStatus, ConditionType, Reason
from bes_api.service import BestEffortService
from bes_api.service_status import ModelStatus, ServiceStatus
from bes_operator.conditions import Verdict, verdicts
from bes_operator.desired.configuration import CLIENT_PORT
from bes_operator.event import Event
from bes_operator.live import ready_addresses
from bes_operator.manifest import Key
from bes_operator.names import engine_name, router_name
from bes_operator.seen import Seen

_TOLD: Mapping[ConditionType, ConditionStatus] = {
    ConditionType.AVAILABLE: ConditionStatus.FALSE,
    ConditionType.STALLED: ConditionStatus.TRUE,
    ConditionType.LOAD_FIGURES: ConditionStatus.FALSE,
    ConditionType.QUALITY_REDUCED: ConditionStatus.TRUE,
}
"""Conditions of which a person hears, and when they are bad. The policy's way has events of its own."""
_BAD_AT_FIRST = frozenset({ConditionType.AVAILABLE, ConditionType.QUALITY_REDUCED})
"""A service that has just been made has no engines yet."""


def status_of(seen: Seen) -> ServiceStatus:
    """The status at the end of a pass. The same is seen, the same comes out: times move only with what they are of."""
    previous = seen.previous
    return ServiceStatus(
        observed_generation=seen.generation,
        conditions=tuple(
            _condition(previous, kind, verdict, seen.generation, seen.now) for kind, verdict in _all(seen).items()
        ),
        endpoint=previous.endpoint if seen.service is None else _endpoint(seen),
        models=previous.models if seen.service is None else _models(seen, seen.service),
        policy=previous.policy if seen.policy is None else seen.policy.status,
        served=seen.served or previous.served,
    )


def begun(previous: ServiceStatus, generation: int, now: datetime) -> ServiceStatus | None:
    """What to write before the first pass over a new generation; None: it is none.

    Whoever waits for Ready must not meet the old generation's.
    """
    if previous.observed_generation == generation:
        return None
    news = {
        ConditionType.READY: Verdict(ConditionStatus.UNKNOWN, Reason.NEW_GENERATION, "the operator has begun"),
        ConditionType.RECONCILING: Verdict(ConditionStatus.TRUE, Reason.NEW_GENERATION, "the operator has begun"),
    }
    kept = [condition for condition in previous.conditions if condition.type not in news]
    made = [_condition(previous, kind, verdict, generation, now) for kind, verdict in news.items()]
    return previous.model_copy(update={"observed_generation": generation, "conditions": (*made, *kept)})


def events_of(before: ServiceStatus, after: ServiceStatus) -> tuple[Event, ...]:
    """Events of a change: something went bad, for another reason than before, or well again. Nothing new, no event."""
    events = [event for kind in _TOLD if (event := _told(kind, before.condition(kind), after.condition(kind)))]
    old, new = before.condition(ConditionType.READY), after.condition(ConditionType.READY)
    if new is not None and new.status is ConditionStatus.TRUE and (old is None or old.status is not new.status):
        events.append(Event("Normal", "Ready", new.message))
    return tuple(events)


def _told(kind: ConditionType, old: Condition | None, new: Condition | None) -> Event | None:
    if new is None:
        return None
    if _is_bad(kind, new):
        if old is None and kind in _BAD_AT_FIRST:
            return None
        again = _is_bad(kind, old) and old is not None and old.reason == new.reason
        return None if again else Event("Warning", new.reason, new.message)
    if _is_bad(kind, old) and new.status is not ConditionStatus.UNKNOWN:
        return Event("Normal", new.reason, new.message)
    return None


def _is_bad(kind: ConditionType, condition: Condition | None) -> bool:
    """Figures that are old for a moment, while engines come and go, are nothing to be told."""
    return condition is not None and condition.status is _TOLD[kind] and condition.reason != Reason.FIGURES_OLD


def _all(seen: Seen) -> dict[ConditionType, Verdict]:
    """Conditions, those that nothing was seen of as they were."""
    found = verdicts(seen)
    policy = seen.previous.condition(ConditionType.POLICY_READY)
    if ConditionType.POLICY_READY not in found and policy is not None:
        found[ConditionType.POLICY_READY] = Verdict(policy.status, Reason(policy.reason), policy.message)
    return {kind: found[kind] for kind in ConditionType if kind in found}


def _condition(
    previous: ServiceStatus, kind: ConditionType, verdict: Verdict, generation: int, now: datetime
) -> Condition:
    old = previous.condition(kind)
    same = old is not None and old.status is verdict.status
    return Condition(
        type=kind,
        status=verdict.status,
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old is not None and same else now,
        reason=verdict.reason,
        message=verdict.message,
    )


def _endpoint(seen: Seen) -> str:
    return f"http://{router_name(seen.name)}.{seen.namespace}.svc:{CLIENT_PORT}"


def _models(seen: Seen, service: BestEffortService) -> tuple[ModelStatus, ...]:
    found = []
    for model in service.spec.models:
        name = engine_name(seen.name, model.name)
        live = seen.live.get(Key("Deployment", seen.namespace, name))
        scaled = live["spec"].get("replicas") if live is not None else None
        desired = model.replicas if model.replica_range is None else scaled or model.replica_range.min
        ready = ready_addresses(seen.live, name)
        found.append(ModelStatus(name=model.name, deployment_name=name, ready=ready, desired=desired or 0))
    return tuple(found)
