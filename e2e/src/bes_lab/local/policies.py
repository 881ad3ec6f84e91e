"""Names of policies as commands take them: a rule or a model, with its placement, or an artifact's folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from bes_api.router_config import (
    DeadlineAwarePolicy,
    LearnedPolicy,
    OwnPolicy,
    PaperPolicy,
    Placement,
    PolicyChoice,
    PricedPolicy,
    RulePolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_api.scenario import Scenario
from bes_api.service import BestEffortService, PolicyType, RuleType, StaticSettings
from bes_lab.errors import TargetError
from bes_router.policy import own
from bes_router.policy.artifact import read_artifact

_Rule = DeadlineAwarePolicy | PricedPolicy | ThresholdPolicy
_RULES: Mapping[str, type[_Rule]] = {
    "DeadlineAware": DeadlineAwarePolicy,
    "Priced": PricedPolicy,
    "Threshold": ThresholdPolicy,
}


def choice_of(text: str, scenario: Scenario) -> PolicyChoice:
    """Read `RULE` or `MODEL` (always that model), each with `/PLACEMENT` if wanted, or an artifact's folder.

    Any other name is that of an installed policy of one's own.
    """
    if os.path.isdir(text):  # noqa: PTH112 - unlike Path's, it takes names that are too long for a file
        return artifact_choice(Path(text))
    name, _, place = text.partition("/")
    models = [model.name for model in scenario.models]
    if name in models:
        return StaticPolicy(model=name, placement=_placement(text, place))
    if name in _RULES:
        return _RULES[name](placement=_placement(text, place))
    if text in own.installed():
        return OwnPolicy(name=text)
    raise TargetError(
        f"policy {text}: expected a rule ({', '.join(_RULES)}) or a model ({', '.join(models)}), each with /PLACEMENT "
        "if wanted, the folder of an artifact, or an installed policy's name; there is no such folder"
    )


def _placement(policy: str, name: str) -> Placement:
    try:
        return Placement(name) if name else Placement.LEAST_LOADED
    except ValueError:
        raise TargetError(f"policy {policy}: placement {name!r}: expected one of {', '.join(Placement)}") from None


def artifact_choice(folder: Path) -> PolicyChoice:
    """The policy whose artifact lies in ``folder``. Raises ArtifactError."""
    kind = read_artifact(folder).passport.kind
    resolved = folder.resolve()
    return LearnedPolicy(artifact=resolved) if kind == "Learned" else PaperPolicy(artifact=resolved)


def own_policy(service: BestEffortService) -> tuple[PolicyChoice, RulePolicy]:
    """What the resource asks for without an artifact, and its fallback; Learned without one means the fallback."""
    policy = service.spec.policy
    fallback = _rule(RuleType(policy.fallback.type), policy.fallback.static)
    if policy.type is PolicyType.LEARNED:
        return fallback, fallback
    return _rule(RuleType(policy.type), policy.static), fallback


def _rule(kind: RuleType, static: StaticSettings | None) -> RulePolicy:
    if kind is RuleType.STATIC:
        if static is None:  # the resource's rules refuse this
            raise TargetError("policy Static: static.model is missing")
        return StaticPolicy(model=static.model)
    return _RULES[kind]()


def name_of(choice: PolicyChoice) -> str:
    """The policy's name in tables and pictures."""
    if isinstance(choice, OwnPolicy):
        return choice.name
    name = f"Static({choice.model})" if isinstance(choice, StaticPolicy) else choice.type
    placement = getattr(choice, "placement", Placement.LEAST_LOADED)
    return name if placement is Placement.LEAST_LOADED else f"{name}/{placement}"
