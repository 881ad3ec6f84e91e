"""Who decides: the configured policy, or the stated fallback rule, and in what words metrics and headers say it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bes_api.errors import BestEffortError
from bes_api.router_config import PolicyChoice, RouterConfig
from bes_router.errors import StartupError
from bes_router.metrics import Metrics
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Decision, LoadView, RoutingRequest

log = logging.getLogger(__name__)

Loader = Callable[[PolicyChoice], Policy]


@dataclass(frozen=True)
class Loaded:
    """The policy that decides; ``problem`` says why the asked one does not."""

    policy: Policy
    fallback: Policy
    problem: str = ""

    @property
    def name(self) -> str:
        """As x-bes-policy says it."""
        return f"{self.policy.name}; fallback" if self.problem else self.policy.name


def load(config: RouterConfig, loader: Loader) -> Loaded:
    """Load policy and fallback. An artifact that cannot be used means the fallback; a bad rule, StartupError."""
    try:
        fallback = loader(config.fallback)
    except BestEffortError as error:
        raise StartupError(f"fallback: {error}") from error
    try:
        return Loaded(loader(config.policy), fallback)
    except BestEffortError as error:
        log.error("policy %s cannot be used, %s decides: %s", config.policy.type, fallback.name, error)
        return Loaded(fallback, fallback, str(error))


class Decider:
    """Asks the policy; a policy that fails or answers nonsense costs that decision, not the request."""

    def __init__(self, loaded: Loaded, metrics: Metrics) -> None:
        self._policy = loaded.policy
        self._fallback = loaded.fallback
        self._metrics = metrics
        self.name = loaded.name
        metrics.policy = loaded.policy.name
        metrics.fallback = bool(loaded.problem)

    def choose(self, request: RoutingRequest, view: LoadView, now: float) -> Decision:
        """The policy's choice, or the fallback's where that is none that could be carried out."""
        try:
            decision = self._policy.choose(request, view, now)
            if decision.engine < 0 or view.ready[decision.engine]:
                return decision
            problem = f"it chose engine {decision.engine}, which is not ready"
        except Exception as error:  # noqa: BLE001 - the seam to trained code: whatever it does, requests go on
            problem = repr(error)
        if self._metrics.policy_failures == 0:
            log.error("policy %s failed a decision, the fallback took it: %s", self.name, problem)
        self._metrics.policy_failures += 1
        return self._fallback.choose(request, view, now)
