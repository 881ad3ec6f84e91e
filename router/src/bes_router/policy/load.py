"""From what a configuration says to a policy that decides."""

from bes_api.router_config import (
    DeadlineAwarePolicy,
    LearnedPolicy,
    PaperPolicy,
    Placement,
    PolicyChoice,
    PricedPolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_api.scenario import Scenario
from bes_router.policy import placement, policies, rules
from bes_router.policy.artifact import fits, read_artifact
from bes_router.policy.contract import Policy
from bes_router.policy.defaults import default_parameters
from bes_router.policy.errors import ArtifactMisfitError
from bes_router.policy.layout import Catalogue

PLACEMENTS = {
    Placement.LEAST_LOADED: placement.LEAST_LOADED,
    Placement.LEAST_FINISH: placement.LEAST_FINISH,
    Placement.BUNCHED: placement.BUNCHED,
}
KINDS = {
    "Static": rules.STATIC,
    "DeadlineAware": rules.DEADLINE_AWARE,
    "Priced": rules.PRICED,
    "Threshold": rules.THRESHOLD,
}


def load_policy(choice: PolicyChoice, scenario: Scenario, catalogue: Catalogue) -> Policy:
    """The policy that ``choice`` names, ready to decide for ``catalogue``. Raises ArtifactError."""
    match choice:
        case LearnedPolicy():
            artifact = read_artifact(choice.artifact)
            _expect(artifact.passport.kind, "Learned")
            fits(artifact, scenario)
            return policies.LearnedPolicy(catalogue, artifact)
        case PaperPolicy():
            artifact = read_artifact(choice.artifact)
            _expect(artifact.passport.kind, "Paper")
            fits(artifact, scenario)
            return policies.PaperPolicy(catalogue, artifact)
        case StaticPolicy():
            model = [each.name for each in scenario.models].index(choice.model)
            name = f"Static({choice.model})"
            return policies.RulePolicy(name, catalogue, rules.STATIC, PLACEMENTS[choice.placement], (0.0, model))
        case DeadlineAwarePolicy() | PricedPolicy() | ThresholdPolicy():
            kind = KINDS[choice.type]
            defaults = default_parameters(catalogue, kind)
            parameters = choice.parameters or defaults
            if len(parameters) != len(defaults):
                raise ArtifactMisfitError(
                    f"{choice.type} takes {len(defaults)} parameters for this service, not {len(parameters)}"
                )
            return policies.RulePolicy(choice.type, catalogue, kind, PLACEMENTS[choice.placement], parameters)


def _expect(have: str, want: str) -> None:
    if have != want:
        raise ArtifactMisfitError(f"the artifact is of kind {have}, the configuration asks for {want}")
