"""Who decides: the configured policy, or the stated fallback rule, and in what words metrics and headers say it."""

import logging
from dataclasses import dataclass

from bes_api.errors import ArtifactError, ArtifactUnreadableError, BestEffortError
from bes_api.passport import Passport
from bes_api.router_config import RouterConfig
from bes_router.errors import StartupError
from bes_router.metrics import Metrics
from bes_router.policy.artifact import Artifact, parse_artifact
from bes_router.policy.contract import Policy
from bes_router.policy.errors import ArtifactAbsentError
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.load import load_policy
from bes_router.shadow import Shadow
from bes_router.watch import Snapshot

log = logging.getLogger(__name__)

FAILED = "failed"
"""Why the fallback took one decision: the policy raised, or chose what is not ready."""


@dataclass(frozen=True)
class Loaded:
    """The policy that decides; ``problem`` says why the asked one does not, ``word`` the same in a word."""

    policy: Policy
    fallback: Policy
    problem: str = ""
    word: str = ""
    digest: str | None = None
    """Of the artifact by which ``policy`` decides."""
    passport: Passport | None = None

    @property
    def name(self) -> str:
        """As x-bes-policy says it."""
        return f"{self.policy.name}; fallback={self.word}" if self.problem else self.policy.name


def artifact_of(found: Snapshot) -> Artifact:
    """The artifact of a folder that was read. Raises ArtifactError."""
    if found.problem:
        raise ArtifactUnreadableError(f"{found.problem}; train again or restore the folder")
    if not found.files:
        raise ArtifactAbsentError(f"{found.source} is empty: no artifact has been delivered yet")
    return parse_artifact(found.files, found.source)


def load(config: RouterConfig, catalogue: Catalogue, found: Snapshot | None = None) -> Loaded:
    """Load policy and fallback; ``found`` is what the artifact's folder holds, None where the policy needs none.

    An artifact that cannot be used means the fallback; a bad rule, StartupError.
    """
    try:
        fallback = load_policy(config.fallback, config.scenario, catalogue)
    except BestEffortError as error:
        raise StartupError(f"fallback: {error}") from error
    try:
        artifact = None if found is None else artifact_of(found)
        policy = load_policy(config.policy, config.scenario, catalogue, artifact)
    except ArtifactError as error:
        return Loaded(fallback, fallback, str(error), error.word)
    if artifact is None or found is None:
        return Loaded(policy, fallback)
    return Loaded(policy, fallback, digest=found.digest, passport=artifact.passport)


@dataclass(frozen=True, eq=False)
class Voice:
    """One that may take a decision; ``name`` as x-bes-policy says it."""

    policy: Policy
    name: str


class Decider:
    """Asks the policy; a policy that fails or answers nonsense costs that decision, not the request."""

    def __init__(self, loaded: Loaded, metrics: Metrics, shadow: Shadow | None = None) -> None:
        self.loaded = loaded
        self.voice = Voice(loaded.policy, loaded.name)
        """Who decides."""
        self.stand_in = Voice(loaded.fallback, f"{loaded.fallback.name}; fallback={loaded.word or FAILED}")
        """Who takes a decision that the policy failed."""
        self._metrics = metrics
        self._shadow = shadow

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> tuple[Decision, Voice]:
        """The policy's choice, or the fallback's where that is none that could be carried out; and whose it is."""
        taken = self._choose(request, view, now)
        if self._shadow is not None:
            self._shadow.decided(request, view, now, taken[0])
        return taken

    def _choose(self, request: RoutingRequest, view: LoadView, now: float) -> tuple[Decision, Voice]:
        try:
            decision = self.voice.policy.choose(request, view, now)
            if decision.engine < 0 or view.ready[decision.engine]:
                return decision, self.voice
            problem = f"it chose engine {decision.engine}, which is not ready"
        except Exception as error:  # noqa: BLE001 - the seam to trained code: whatever it does, requests go on
            problem = repr(error)
        if self._metrics.policy_failures == 0:
            log.error("policy %s failed a decision, the fallback took it: %s", self.voice.name, problem)
        self._metrics.policy_failures += 1
        return self.stand_in.policy.choose(request, view, now), self.stand_in
