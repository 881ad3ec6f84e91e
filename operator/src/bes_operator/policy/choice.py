"""Which of the recorded policies routes, which is in shadow, and which have had their day."""

from collections.abc import Iterable
from datetime import datetime

from bes_api.scenario import Scenario
from bes_api.service import PolicyType, PromotionMode
from bes_operator.policy.ledger import Ledger, PolicyRecord, Stage, likeness_of
from bes_operator.policy.seen import PolicySeen
from bes_operator.policy.training import wanted_scenario

MAY_ROUTE = (Stage.PROVEN, Stage.RULE)


def by_rule(ledger: Ledger, record: PolicyRecord) -> bool:
    """Whether the record's rule routes rather than its weights: also while it is in shadow after a second judgement."""
    still = ledger.by_rule and ledger.active == record.digest and record.stage is Stage.SHADOW
    return record.stage is Stage.RULE or still


def still_fits(record: PolicyRecord, scenario: Scenario, rule: bool) -> bool:
    """Whether a policy of another scenario can go on: the scorer always, a DQN and a tuned rule for the same names."""
    if record.kind == "Learned" and not rule:
        return True
    names = tuple(model.name for model in scenario.models), tuple(task.name for task in scenario.tasks)
    return (record.models, record.tasks) == names


def meant(seen: PolicySeen, record: PolicyRecord) -> bool:
    """Whether the artifact is the one that the resource asks for now."""
    imported = seen.service.spec.policy.source.imported
    return record.digest == imported.digest if imported is not None else record.scenario == wanted_scenario(seen)


def in_shadow(seen: PolicySeen, ledger: Ledger) -> PolicyRecord | None:
    """The candidate."""
    if seen.service.spec.policy.type is not PolicyType.LEARNED:
        return None
    found = [each for each in ledger.policies if each.stage is Stage.SHADOW and meant(seen, each)]
    return found[-1] if found else None


def pinnable(seen: PolicySeen, ledger: Ledger) -> PolicyRecord | None:
    """The policy that the resource's pin holds; None: no pin, or none of that digest that passed the gate and fits."""
    record = ledger.policy(seen.service.spec.policy.pinned_digest)
    if record is None or record.stage not in (Stage.PROVEN, Stage.SHADOW):
        return None
    return record if seen.scenario is None or still_fits(record, seen.scenario, rule=False) else None


def to_route(seen: PolicySeen, ledger: Ledger) -> PolicyRecord | None:
    """The record by which routers shall decide; None: the stated fallback.

    A pin that can be obeyed holds. Else the newest for this very service routes, a policy before a rule that another
    candidate lost against. Without one, what routed goes on as long as it fits.
    """
    if (pinned := pinnable(seen, ledger)) is not None:
        return pinned
    now = ledger.policy(ledger.active)
    if now is not None and now.stage is not Stage.PROVEN and not by_rule(ledger, now):
        now = None
    if seen.scenario is None or (now is not None and seen.service.spec.policy.pinned_digest is not None):
        return now
    going_on = now if now is not None and still_fits(now, seen.scenario, by_rule(ledger, now)) else None
    if going_on is not None and seen.service.spec.policy.promotion.mode is PromotionMode.MANUAL:
        return going_on
    mine = [each for each in ledger.policies if _of_this_service(seen, each)]

    def rank(each: PolicyRecord) -> tuple[bool, bool, datetime]:
        proven = each.stage is Stage.PROVEN
        return proven and meant(seen, each), proven, each.since

    return max(mine, key=rank, default=going_on)


def kept_digests(seen: PolicySeen, ledger: Ledger) -> set[str]:
    """Artifacts to keep: what routes, what is meant, what is pinned, and the newest of the rest."""
    needed = {ledger.active, seen.service.spec.policy.pinned_digest}
    needed |= {each.digest for each in ledger.policies if meant(seen, each)}
    rest = [each for each in ledger.policies if each.digest not in needed and each.stage is not Stage.REFUSED]
    rest.sort(key=lambda each: each.since, reverse=True)
    kept = _digests(rest[: seen.service.spec.policy.history_limit])
    return {digest for digest in needed if digest is not None} | kept


def _of_this_service(seen: PolicySeen, record: PolicyRecord) -> bool:
    if record.stage not in MAY_ROUTE or seen.scenario is None:
        return False
    return record.likeness == likeness_of(seen.scenario) and still_fits(
        record, seen.scenario, record.stage is Stage.RULE
    )


def _digests(records: Iterable[PolicyRecord]) -> set[str]:
    return {each.digest for each in records}
