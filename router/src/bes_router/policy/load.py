"""From what a configuration says to a policy that decides."""

from pathlib import Path

from bes_api.errors import ArtifactMisfitError
from bes_api.router_config import (
    ConfiguredPolicy,
    DeadlineAwarePolicy,
    DeliveredPolicy,
    LearnedPolicy,
    OwnPolicy,
    PaperPolicy,
    Placement,
    PricedPolicy,
    StaticPolicy,
    ThresholdPolicy,
)
from bes_api.scenario import Scenario
from bes_router.policy import own, placement, policies, rules
from bes_router.policy.artifact import Artifact, fits, read_artifact
from bes_router.policy.contract import Policy
from bes_router.policy.defaults import default_parameters
from bes_router.policy.errors import ArtifactAbsentError
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


def artifact_folder(choice: ConfiguredPolicy, delivered: Path | None) -> Path | None:
    """Where the artifact of ``choice`` lies; None for a rule, and where nothing says where ``delivered`` ones come."""
    match choice:
        case LearnedPolicy() | PaperPolicy():
            return choice.artifact
        case DeliveredPolicy():
            return delivered
        case _:
            return None


def load_policy(
    choice: ConfiguredPolicy, scenario: Scenario, catalogue: Catalogue, artifact: Artifact | None = None
) -> Policy:
    """The policy that ``choice`` names, ready to decide for ``catalogue``. Raises ArtifactError.

    ``artifact``: its artifact, already read; without it a choice that names a folder is read from there.
    """
    match choice:
        case LearnedPolicy() | PaperPolicy():
            artifact = artifact or read_artifact(choice.artifact)
            if artifact.passport.kind != choice.type:
                raise ArtifactMisfitError(
                    f"the artifact is of kind {artifact.passport.kind}, the configuration asks for {choice.type}"
                )
            return learned_policy(artifact, scenario, catalogue)
        case DeliveredPolicy():
            if artifact is None:
                raise ArtifactAbsentError("no artifact has been delivered; start the router with --policy FOLDER")
            return learned_policy(artifact, scenario, catalogue)
        case OwnPolicy():
            return own.load(choice.name, scenario, catalogue)
        case StaticPolicy():
            model = [each.name for each in scenario.models].index(choice.model)
            name = f"Static({choice.model})"
            parameters = (choice.gate, float(model))
            return policies.RulePolicy(name, catalogue, rules.STATIC, PLACEMENTS[choice.placement], parameters)
        case DeadlineAwarePolicy() | PricedPolicy() | ThresholdPolicy():
            kind = KINDS[choice.type]
            defaults = default_parameters(catalogue, kind)
            stated = choice.parameters or defaults
            if len(stated) != len(defaults):
                raise ArtifactMisfitError(
                    f"{choice.type} takes {len(defaults)} parameters for this service, not {len(stated)}"
                )
            return policies.RulePolicy(choice.type, catalogue, kind, PLACEMENTS[choice.placement], stated)


def learned_policy(artifact: Artifact, scenario: Scenario, catalogue: Catalogue) -> Policy:
    """The policy that an artifact of either kind is. Raises ArtifactMisfitError."""
    fits(artifact, scenario)
    if artifact.passport.kind == "Learned":
        return policies.LearnedPolicy(catalogue, artifact)
    return policies.PaperPolicy(catalogue, artifact)
