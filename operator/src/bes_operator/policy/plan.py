"""The plan of one pass: everything seen goes in, everything to do comes out. Pure, level-triggered, idempotent.

In order: the ledger (or what can be made of it), trainings, new artifacts with their gate, the shadow, the choice of
what routes, what has had its day; then the part for the routers.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from bes_api.config_map import data_of
from bes_api.service import PolicyType, PromotionMode
from bes_api.service_status import PolicyStatus, Reason, TrainingState
from bes_operator.event import Event
from bes_operator.labels import Component
from bes_operator.manifest import Apply, Key, Manifest, key_of
from bes_operator.policy.acceptance import accept, files_of, found_again, judged_again
from bes_operator.policy.asked import part_of
from bes_operator.policy.choice import by_rule, in_shadow, kept_digests, meant, pinnable, to_route
from bes_operator.policy.ledger import (
    MOST_REFUSED,
    Ledger,
    PolicyRecord,
    Retired,
    Stage,
    TrainingRecord,
    instant,
    ledger_name,
    read_ledger,
    write_ledger,
)
from bes_operator.policy.seen import Deletion, PolicyPlan, PolicySeen
from bes_operator.policy.shadow import Progress, progress, until
from bes_operator.policy.standing import Standing, standing_of
from bes_operator.policy.training import Course, artifact_with, follow, owned_by, wanted_scenario
from bes_operator.policy.training_job import metadata_of

MOST_RETIRED = 32


@dataclass
class _Pass:
    """What the pass has come to so far."""

    seen: PolicySeen
    course: Course
    shadow: Progress | None = None
    gone: list[PolicyRecord] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.course.ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self.course.ledger = ledger

    def tell(self, kind: str, reason: str, message: str) -> None:
        self.course.events.append(Event("Warning" if kind == "Warning" else "Normal", reason, message))


def plan(seen: PolicySeen) -> PolicyPlan:
    """What to do now about the service's policy."""
    stored = next((each for each in seen.config_maps if each["metadata"]["name"] == _ledger_of(seen).name), None)
    before = read_ledger(stored)
    now = _Pass(seen, follow(seen, before if before is not None else _recovered(seen)))
    _take_in(now)
    _judge_again(now)
    _advance_shadow(now)
    _route(now)
    _retire(now)
    standing = standing_of(seen, now.ledger, now.shadow, now.course.position)
    now.ledger = standing.ledger
    return _as_plan(now, stored, standing)


def _ledger_of(seen: PolicySeen) -> Key:
    return Key("ConfigMap", seen.namespace, ledger_name(seen.service.name))


def _recovered(seen: PolicySeen) -> Ledger:
    """A ledger from what else is known: the artifacts that the service owns, and the status as it was last written."""
    status = seen.previous or PolicyStatus()
    retired = {each.digest for each in status.history if each.reason != Reason.ARTIFACT_REFUSED}
    active = status.active.digest if status.active is not None else None
    ledger = Ledger()
    for each in seen.config_maps:
        if each.get("immutable") and owned_by(each, seen.uid):
            record = found_again(seen, each, {*retired, *([active] if active is not None else [])})
            ledger = ledger if record is None else ledger.with_policy(record)
    training = status.training
    if training is not None and training.state in (TrainingState.SUCCEEDED, TrainingState.FAILED):
        fields = training.model_dump(include={"scenario", "revision", "state", "since", "attempts", "reason"})
        record_of = {**fields, "job": training.job or "", "message": training.message or ""}
        known = training.state is TrainingState.FAILED or any(
            each.scenario == training.scenario for each in ledger.policies
        )
        if known:
            ledger = ledger.with_training(TrainingRecord.model_validate(record_of))
    if ledger.policy(active) is None:
        return ledger
    return ledger.model_copy(update={"active": active, "active_since": status.active and status.active.since})


def _take_in(now: _Pass) -> None:
    """Artifacts that the ledger does not know yet."""
    seen = now.seen
    policy = seen.service.spec.policy
    if seen.scenario is None or policy.type is not PolicyType.LEARNED:
        return
    if policy.source.imported is not None:
        known = now.ledger.policy(policy.source.imported.digest)
        if known is None or known.stage is Stage.REFUSED:
            _accepted(now, accept(seen, seen.scenario, seen.imported, policy.source.imported.digest, "Imported"))
        return
    training = now.ledger.training(wanted_scenario(seen))
    if training is not None and training.digest is not None and now.ledger.policy(training.digest) is None:
        manifest = artifact_with(seen, training.digest)
        if manifest is not None:
            _accepted(now, accept(seen, seen.scenario, manifest, training.digest, "Trained"))


def _accepted(now: _Pass, record: PolicyRecord) -> None:
    known = now.ledger.policy(record.digest)
    if known is not None and (known.stage, known.message) == (record.stage, record.message):
        return
    now.ledger = now.ledger.with_policy(record)
    if record.stage is Stage.REFUSED:
        now.tell("Warning", "ArtifactRefused", record.message)
    elif record.stage is Stage.RULE:
        now.tell("Normal", "RuleIsEnough", record.message)
    else:
        now.tell("Normal", "GatePassed", record.message)


def _judge_again(now: _Pass) -> None:
    for record in now.ledger.policies:
        if meant(now.seen, record) and (again := judged_again(now.seen, record)) is not record:
            now.ledger = now.ledger.with_policy(again)


def _advance_shadow(now: _Pass) -> None:
    seen, record = now.seen, in_shadow(now.seen, now.ledger)
    if record is None:
        return
    promotion = seen.service.spec.policy.promotion
    seconds = seen.settings.shadow_seconds
    seconds = promotion.shadow.total_seconds() if seconds is None else seconds
    now.shadow = found = progress(record, seen.routers, seconds, seen.now)
    changes: dict[str, Any] = {}
    if found.failure is not None:
        changes = {"stage": Stage.REFUSED, "since": instant(seen.now)}
        changes |= {"reason": Reason.CANDIDATE_LOST, "message": f"in shadow: {found.failure}"}
        now.tell("Warning", "ShadowFailed", found.failure)
    elif record.shadow_since is None and found.everywhere:
        changes = {"shadow_since": instant(seen.now)}
        now.shadow = replace(found, wait_seconds=min(seconds, 30.0), message=until(instant(seen.now), seconds))
    elif found.done and promotion.mode is PromotionMode.AUTOMATIC:
        changes = {"stage": Stage.PROVEN, "since": instant(seen.now)}
    if changes:
        now.ledger = now.ledger.with_policy(record.model_copy(update=changes))


def _route(now: _Pass) -> None:
    seen = now.seen
    if seen.service.spec.policy.type is not PolicyType.LEARNED:
        return
    target = to_route(seen, now.ledger)
    if target is not None and not by_rule(now.ledger, target) and files_of(seen, target) is None:
        message = f"the files of {target.digest} are nowhere any more; raise training.revision to train again"
        lost = {"stage": Stage.REFUSED, "since": instant(seen.now), "reason": Reason.ARTIFACT_LOST, "message": message}
        now.ledger = now.ledger.with_policy(target.model_copy(update=lost))
        now.tell("Warning", "ArtifactLost", message)
        target = to_route(seen, now.ledger)
    if target is not None and target == pinnable(seen, now.ledger) and target.stage is Stage.SHADOW:
        # a pin is a person's word
        target = target.model_copy(update={"stage": Stage.PROVEN, "since": instant(seen.now)})
        now.ledger = now.ledger.with_policy(target)
    found = (target.digest, by_rule(now.ledger, target)) if target is not None else (None, False)
    if found != (now.ledger.active, now.ledger.by_rule):
        _switch(now, target)


def _switch(now: _Pass, target: PolicyRecord | None) -> None:
    seen, before = now.seen, now.ledger.policy(now.ledger.active)
    changes: dict[str, Any] = {"active": None, "by_rule": False, "active_since": None, "delivered": False}
    if target is not None:
        rule = by_rule(now.ledger, target)
        changes |= {"active": target.digest, "by_rule": rule, "active_since": instant(seen.now)}
        name = target.judged.rule if rule and target.judged is not None else target.kind
        now.tell("Normal", "PolicyActivated", f"{name} routes from now on, by {target.digest}")
    else:
        now.tell("Warning", "PolicyDeactivated", "the fallback rule routes: no policy fits the service as it is now")
    if before is not None and now.ledger.active_since is not None:
        why = "Superseded" if target is not None else "Misfit"
        why = "Pinned" if target is not None and target == pinnable(seen, now.ledger) else why
        past = Retired(
            name=before.judged.rule if now.ledger.by_rule and before.judged is not None else before.kind,
            digest=before.digest,
            score=before.judged.score if before.judged is not None else None,
            since=now.ledger.active_since,
            until=instant(seen.now),
            reason=why if before.stage is not Stage.REFUSED else str(before.reason),
        )
        changes["retired"] = (past, *now.ledger.retired)[:MOST_RETIRED]
    now.ledger = now.ledger.model_copy(update=changes)


def _retire(now: _Pass) -> None:
    """Artifacts beyond the history; their trainings are forgotten with them, so that a service may come back to one."""
    kept = kept_digests(now.seen, now.ledger)
    refused = [each for each in now.ledger.policies if each.stage is Stage.REFUSED and each.digest not in kept]
    forgotten = refused[:-MOST_REFUSED]
    now.gone = [each for each in now.ledger.policies if each.digest not in kept and each.stage is not Stage.REFUSED]
    digests = [each.digest for each in (*now.gone, *forgotten)]
    now.ledger = now.ledger.without(digests, [each.scenario for each in now.gone if each.origin == "Trained"])


def _as_plan(now: _Pass, stored: Manifest | None, standing: Standing) -> PolicyPlan:
    seen, course = now.seen, now.course
    steps = list(course.steps)
    deletions = list(course.deletions)
    kept = set(course.kept) | {key_of(each) for each in seen.config_maps if each.get("immutable")}
    for record in now.ledger.policies:
        if (restored := _owned_artifact(seen, record)) is not None:
            steps.append(Apply(restored))
            kept.add(key_of(restored))
    held = {each["metadata"]["name"]: each for each in seen.config_maps if each.get("immutable")}
    for record in now.gone:
        if record.origin == "Trained" and (live := held.get(record.config_map)) is not None:
            deletions.append(Deletion(key_of(live), live["metadata"]["uid"]))
            kept.discard(key_of(live))
    if stored is not None or now.ledger != Ledger():
        metadata = metadata_of(seen, ledger_name(seen.service.name), Component.POLICY)
        steps.insert(0, Apply(write_ledger(now.ledger, metadata)))
        kept.add(_ledger_of(seen))
    waits = [*course.waits, *([standing.wait_seconds] if standing.wait_seconds is not None else [])]
    return PolicyPlan(
        part=part_of(seen, now.ledger),
        steps=tuple(steps),
        deletions=tuple(deletions),
        kept=frozenset(kept),
        status=standing.status,
        ready=standing.ready,
        reason=standing.reason,
        message=standing.message,
        events=tuple(course.events),
        wait_seconds=min(waits) if waits else None,
    )


def _owned_artifact(seen: PolicySeen, record: PolicyRecord) -> Manifest | None:
    """The whole artifact as the service owns it: adopts what a Job left, and makes again what somebody deleted."""
    if record.origin == "Imported" or record.stage is Stage.REFUSED:
        return None
    files = files_of(seen, record)
    if files is None:
        return None
    metadata = metadata_of(seen, record.config_map, Component.POLICY)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, **data_of(files)}
