"""What the routers are given: the policy of their configuration, and the files of both folders."""

from bes_api.router_config import (
    DeadlineAwarePolicy,
    DeliveredPolicy,
    PricedPolicy,
    RulePolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_api.service import PolicyType
from bes_operator.policy.acceptance import files_of
from bes_operator.policy.choice import in_shadow
from bes_operator.policy.ledger import Ledger
from bes_operator.policy.seen import PolicyPart, PolicySeen


def asked_rule(seen: PolicySeen) -> RulePolicy | None:
    """The rule that the resource asks for, with its published parameters; None: it asks for a learned policy."""
    policy = seen.service.spec.policy
    match policy.type:
        case PolicyType.PRICED:
            return PricedPolicy()
        case PolicyType.THRESHOLD:
            return ThresholdPolicy()
        case PolicyType.DEADLINE_AWARE:
            return DeadlineAwarePolicy()
        case PolicyType.STATIC:
            model = policy.static.model if policy.static is not None else seen.service.spec.models[0].name
            return StaticPolicy(model=model)
        case PolicyType.LEARNED:
            return None


def part_of(seen: PolicySeen, ledger: Ledger) -> PolicyPart:
    """For every router of the service. Without a policy to deliver, the folder is empty and the fallback decides."""
    if (rule := asked_rule(seen)) is not None:
        return PolicyPart(rule)
    active, candidate = ledger.policy(ledger.active), in_shadow(seen, ledger)
    shadow = files_of(seen, candidate) if candidate is not None else None
    if active is not None and ledger.by_rule and active.rule is not None:
        return PolicyPart(active.rule, candidate=shadow or {})
    files = files_of(seen, active) if active is not None else None
    return PolicyPart(DeliveredPolicy(), active=files or {}, candidate=shadow or {})
