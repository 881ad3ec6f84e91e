"""The policies that every benchmark uses: one rule and one scorer, neither tuned, since only their cost is measured."""

from dataclasses import dataclass

from bes_router.policy import candidates, placement, rules
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest


@dataclass(frozen=True)
class Rule:
    """A rule as the plain functions take it."""

    kind: int
    placement: int
    parameters: tuple[float, ...]


RULE = Rule(rules.DEADLINE_AWARE, placement.LEAST_LOADED, (rules.NO_GATE, 0.1))


@dataclass(frozen=True)
class RulePolicy:
    """``RULE`` as a policy of one catalogue."""

    catalogue: Catalogue
    parameters: list[float]
    name: str = "DeadlineAware"

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """See ``bes_router.policy.contract.Policy``."""
        return rules.choose_by_rule(self.catalogue, view, request, now, RULE.kind, RULE.placement, self.parameters)


def rule_policy(catalogue: Catalogue) -> RulePolicy:
    """The benchmark's rule for a catalogue."""
    return RulePolicy(catalogue, list(RULE.parameters))


def base_parameters() -> list[float]:
    """A base rule that behaves sensibly at any load: expected quality in time less a price that rises with the rate."""
    parameters = [0.0] * candidates.BASE_PARAMETERS
    parameters[candidates.MARGIN] = 0.1
    parameters[candidates.SPREAD] = 0.1
    parameters[candidates.PRICE] = 0.3
    parameters[candidates.PRICE_POWER] = 1.0
    parameters[candidates.TOLL] = -3.0
    parameters[candidates.TOLL_SLOW] = 1.5
    parameters[candidates.SHARING] = 0.5
    parameters[candidates.SHARING_HALF] = 1.0
    parameters[candidates.SLOT_GATE] = rules.NO_GATE
    return parameters
