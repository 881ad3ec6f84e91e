"""Where the way of a policy stands, for status and condition, and whether the routers have what they were given."""

from dataclasses import dataclass
from decimal import Decimal

from bes_api.service import PromotionMode
from bes_api.service_status import (
    CandidateStatus,
    ConditionStatus,
    PolicyStatus,
    PolicyVersion,
    Reason,
    RetiredPolicy,
    TrainingState,
    TrainingStatus,
)
from bes_operator.policy.asked import asked_rule
from bes_operator.policy.choice import in_shadow, meant, pinnable
from bes_operator.policy.ledger import Ledger, PolicyRecord, Stage, instant, likeness_of
from bes_operator.policy.seen import PolicySeen, RouterSeen
from bes_operator.policy.shadow import FRESH_SECONDS, Progress
from bes_operator.policy.training import wanted_scenario

DELIVERY_LOOK_SECONDS = 15.0
Verdict = tuple[ConditionStatus, Reason, str]


@dataclass(frozen=True)
class Standing:
    """What to tell; ``ledger`` with what the routers' words change in it."""

    ledger: Ledger
    status: PolicyStatus
    ready: ConditionStatus
    reason: Reason
    message: str
    wait_seconds: float | None


def standing_of(seen: PolicySeen, ledger: Ledger, shadow: Progress | None, position: int | None) -> Standing:
    """Where it stands."""
    away = _away(seen, ledger)
    if away is None and not ledger.delivered and ledger.active is not None and not ledger.by_rule and seen.routers:
        ledger = ledger.model_copy(update={"delivered": True})
    status = PolicyStatus(
        active=_active(seen, ledger),
        candidate=_candidate(seen, ledger, shadow),
        training=_training(seen, ledger, position),
        history=_history(ledger),
    )
    ready, reason, message = _verdict(seen, ledger, status, away)
    waits = [shadow.wait_seconds] if shadow is not None and shadow.wait_seconds is not None else []
    waits += [DELIVERY_LOOK_SECONDS] if reason in (Reason.DELIVERING, Reason.FALLBACK) else []
    return Standing(ledger, status, ready, reason, message, min(waits) if waits else None)


def _away(seen: PolicySeen, ledger: Ledger) -> tuple[Reason, str] | None:
    """Why the active artifact does not decide in every ready router; None: it does, as far as they have said.

    Once all had it, a router that has said nothing yet (it is new, or out of reach) is given the benefit of the doubt.
    """
    if asked_rule(seen) is not None or ledger.active is None or ledger.by_rule:
        return None
    if not seen.routers and not ledger.delivered:
        return Reason.DELIVERING, "no router is ready"
    for router in seen.routers:
        problem = _problem(router, ledger)
        if problem is not None:
            return Reason.FALLBACK if ledger.delivered else Reason.DELIVERING, f"router {router.name}: {problem}"
    return None


def _problem(router: RouterSeen, ledger: Ledger) -> str | None:
    if router.status is None or router.age_seconds > FRESH_SECONDS:
        return None if ledger.delivered else "it has not said lately what decides"
    said = router.status.policy
    if said.digest == ledger.active and not said.fallback:
        return None
    return said.problem or f"{said.name} decides, {ledger.active} is on its way"


def _verdict(
    seen: PolicySeen, ledger: Ledger, status: PolicyStatus, away: tuple[Reason, str] | None
) -> tuple[ConditionStatus, Reason, str]:
    """The condition PolicyReady."""
    rule = asked_rule(seen)
    if rule is not None:
        return ConditionStatus.TRUE, Reason.RULE_ASKED, f"{rule.type} decides, as the resource asks"
    pin = seen.service.spec.policy.pinned_digest
    if pin is not None and pinnable(seen, ledger) is None:
        message = f"no kept artifact {pin} that passed the gate and fits: name one of status.policy, or remove the pin"
        return ConditionStatus.FALSE, Reason.PIN_NOT_FOUND, message
    if away is not None:
        return ConditionStatus.FALSE, *away
    active, comes = ledger.policy(ledger.active), _on_its_way(seen, ledger, status)
    done = comes is None or comes[0] is Reason.CANDIDATE_LOST
    if active is not None and (pin is not None or _is_for(seen, active)) and (done or meant(seen, active)):
        return _routes(ledger, active, comes)
    served = f"; {status.active.name} decides meanwhile" if status.active is not None else ""
    reason, message = comes if comes is not None else (Reason.PROFILE_UNREADABLE, "a profile is missing or unreadable")
    return ConditionStatus.FALSE, reason, message + served


def _routes(ledger: Ledger, active: PolicyRecord, comes: tuple[Reason, str] | None) -> Verdict:
    newer = f"; a newer candidate: {comes[1]}" if comes is not None else ""
    if ledger.by_rule and active.judged is not None:
        message = f"{active.judged.rule} decides: {active.message}{newer}"
        return ConditionStatus.TRUE, Reason.RULE_IS_ENOUGH, message
    return ConditionStatus.TRUE, Reason.POLICY_ACTIVE, f"{active.message or active.digest}{newer}"


def _is_for(seen: PolicySeen, record: PolicyRecord) -> bool:
    return seen.scenario is not None and record.likeness == likeness_of(seen.scenario)


def _on_its_way(seen: PolicySeen, ledger: Ledger, status: PolicyStatus) -> tuple[Reason, str] | None:
    """What the policy that the resource asks for waits for; None: for nothing."""
    if seen.scenario is None:
        return None
    record = next((each for each in reversed(ledger.policies) if meant(seen, each)), None)
    if status.candidate is not None:
        manual = seen.service.spec.policy.promotion.mode is PromotionMode.MANUAL
        waits = status.candidate.message or ""
        if manual:
            return Reason.AWAITING_PIN, f"write {status.candidate.digest} into pinnedDigest to promote it; {waits}"
        return Reason.IN_SHADOW, f"in shadow: {waits}"
    if record is not None:
        if record.stage is Stage.REFUSED:
            return record.reason or Reason.ARTIFACT_REFUSED, record.message
        return None if record.digest == ledger.active else (Reason.CANDIDATE_LOST, record.message)
    training = ledger.training(wanted_scenario(seen))
    if training is None:
        return Reason.QUEUED, "its training begins"
    match training.state:
        case TrainingState.FAILED:
            return training.reason or Reason.TRAINING_FAILED, training.message
        case TrainingState.QUEUED:
            where = status.training.position if status.training is not None else None
            return Reason.QUEUED, f"number {where or 1} of the trainings that wait"
        case _:
            return Reason.TRAINING, f"Job {training.job} trains it"


def _active(seen: PolicySeen, ledger: Ledger) -> PolicyVersion | None:
    rule, record = asked_rule(seen), ledger.policy(ledger.active)
    if rule is None and record is not None and ledger.active_since is not None:
        name = record.judged.rule if ledger.by_rule and record.judged is not None else record.kind
        return PolicyVersion(
            name=name,
            digest=None if ledger.by_rule else record.digest,
            scenario=record.scenario,
            **_figures(record),
            since=ledger.active_since,
        )
    name = rule.type if rule is not None else str(seen.service.spec.policy.fallback.type)
    before = seen.previous.active if seen.previous is not None else None
    same = before is not None and before.digest is None and before.rule is None and before.name == name
    since = before.since if before is not None and same else instant(seen.now)
    return PolicyVersion(name=name, since=since)


def _figures(record: PolicyRecord) -> dict[str, str | Decimal | None]:
    judged = record.judged
    if judged is None:
        return {}
    return {
        "score": _share(judged.score),
        "rule": judged.rule,
        "rule_score": _share(judged.rule_score),
        "gain": _share(judged.gain),
        "gain_low": _share(judged.gain_low),
    }


def _candidate(seen: PolicySeen, ledger: Ledger, shadow: Progress | None) -> CandidateStatus | None:
    record = in_shadow(seen, ledger)
    if record is None or shadow is None:
        return None
    message = "has passed its shadow" if shadow.done else shadow.message
    since = record.shadow_since or record.since
    return CandidateStatus(
        name=record.kind,
        digest=record.digest,
        scenario=record.scenario,
        **_figures(record),
        since=since,
        decisions=_rounded(shadow.decisions),
        message=message,
    )


def _training(seen: PolicySeen, ledger: Ledger, position: int | None) -> TrainingStatus | None:
    record = ledger.training(wanted_scenario(seen))
    if record is None:
        return None
    return TrainingStatus(
        scenario=record.scenario,
        revision=record.revision,
        state=record.state,
        position=position if record.state is TrainingState.QUEUED else None,
        job=record.job,
        attempts=record.attempts,
        since=record.since,
        reason=record.reason,
        message=record.message or None,
    )


def _history(ledger: Ledger) -> tuple[RetiredPolicy, ...]:
    """What routed, and what was refused; newest first."""
    past = [
        RetiredPolicy(
            name=each.name,
            digest=each.digest,
            score=_share(each.score),
            since=each.since,
            until=each.until,
            reason=each.reason,
            message=each.message or None,
        )
        for each in ledger.retired
    ]
    past += [
        RetiredPolicy(
            name=each.kind,
            digest=each.digest,
            score=_share(each.judged.score) if each.judged is not None else None,
            since=each.since,
            until=each.since,
            reason=str(each.reason or Reason.ARTIFACT_REFUSED),
            message=each.message,
        )
        for each in ledger.policies
        if each.stage is Stage.REFUSED
    ]
    return tuple(sorted(past, key=lambda each: each.until, reverse=True)[:32])


def _share(figure: float | None) -> Decimal | None:
    return None if figure is None else Decimal(f"{figure:.4f}")


def _rounded(count: int) -> int:
    """To two digits, so that a status is not written for every request."""
    step = 10 ** max(0, len(str(count)) - 2)
    return int(count // step * step)
