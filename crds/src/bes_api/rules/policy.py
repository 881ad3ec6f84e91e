"""Rules about what decides."""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

from collections.abc import Iterable

from bes_api.location import Location
from bes_api.rules.rule import Rule, broken, exactly_one
from bes_api.service import Fallback, Policy, PolicySource, PolicyType, Promotion, RuleType


def static_missing(policy: Policy) -> Iterable[Location]:
    return broken(policy.type is PolicyType.STATIC and policy.static is None)


def static_unused(policy: Policy) -> Iterable[Location]:
    return broken(policy.type is not PolicyType.STATIC and policy.static is not None, "static")


def fallback_static_missing(fallback: Fallback) -> Iterable[Location]:
    return broken(fallback.type is RuleType.STATIC and fallback.static is None)


def fallback_static_unused(fallback: Fallback) -> Iterable[Location]:
    return broken(fallback.type is not RuleType.STATIC and fallback.static is not None, "static")


def source_union(source: PolicySource) -> Iterable[Location]:
    return broken(not exactly_one(source.training, source.imported))


def margin_range(promotion: Promotion) -> Iterable[Location]:
    return broken(not 0 <= promotion.margin <= 1, "margin")


RULES: tuple[Rule, ...] = (
    Rule(
        "static-missing",
        ("spec.policy",),
        "a policy of type Static needs its model: set policy.static.model",
        static_missing,
        "self.type != 'Static' || has(self.static)",
    ),
    Rule(
        "static-unused",
        ("spec.policy",),
        "static settings belong to type Static alone: remove policy.static or set policy.type to Static",
        static_unused,
        "self.type == 'Static' || !has(self.static)",
        "static",
    ),
    Rule(
        "fallback-static-missing",
        ("spec.policy.fallback",),
        "a fallback of type Static needs its model: set policy.fallback.static.model",
        fallback_static_missing,
        "self.type != 'Static' || has(self.static)",
    ),
    Rule(
        "fallback-static-unused",
        ("spec.policy.fallback",),
        "static settings of the fallback belong to type Static alone: remove them or set its type to Static",
        fallback_static_unused,
        "self.type == 'Static' || !has(self.static)",
        "static",
    ),
    Rule(
        "source-union",
        ("spec.policy.source",),
        "a learned policy has one source: set exactly one of training (for example training: {}) and imported",
        source_union,
        "has(self.training) != has(self.imported)",
    ),
    Rule(
        "margin-range",
        ("spec.policy.promotion",),
        'margin is outside 0..1: write a share of peak performance such as "0.01"',
        margin_range,
        "double(self.margin) >= 0.0 && double(self.margin) <= 1.0",
        "margin",
    ),
)
