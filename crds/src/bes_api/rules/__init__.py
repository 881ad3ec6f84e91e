"""The one table of rules across fields: evaluated here, and rendered as CEL into the resource's schema.

A check sees only the node at its rule's path (as a CEL rule sees ``self``), compares, counts and matches. Messages are
static, unique, and say the mend, so that the API server's answer names the rule.
"""

from bes_api.rules import engines, load, models, names, policy, tasks
from bes_api.rules.rule import Rule, Violation, violations_of
from bes_api.service import BestEffortService

__all__ = ["RULES", "Rule", "Violation", "violations"]

RULES: tuple[Rule, ...] = (
    *names.RULES,
    *engines.RULES,
    *models.RULES,
    *tasks.RULES,
    *load.RULES,
    *policy.RULES,
)
"""The table."""


def violations(service: BestEffortService) -> tuple[Violation, ...]:
    """Everything that the service breaks, in the order of the table."""
    return violations_of(RULES, service)
