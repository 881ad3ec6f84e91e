"""Configuration, policy and candidate as delivered into folders: looked at, parsed and built, never applied here.

What decides follows from what lies in the folders at the moment, never from what lay there before: two routers with the
same folders serve alike. Only a configuration that cannot be used changes nothing.
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from bes_api.config_map import MAX_ARTIFACT_BYTES, MAX_BYTES
from bes_api.errors import BestEffortError, ConfigurationError
from bes_api.router_config import RouterConfig
from bes_router import decider
from bes_router.decider import Loaded, artifact_of
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.contract import Policy
from bes_router.policy.layout import Catalogue
from bes_router.policy.load import artifact_folder, learned_policy
from bes_router.shadow import ShadowFigures
from bes_router.watch import Snapshot, Watched

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where things are delivered: a file or folder, and two folders."""

    config: Path
    policy: Path | None = None
    candidate: Path | None = None


@dataclass(frozen=True)
class Refused:
    """A configuration that does not serve; ``digest`` is None where nothing could be read."""

    digest: str | None
    problem: str


@dataclass(frozen=True)
class Candidate:
    """What lies in the candidate's folder: a policy, or why it is none."""

    digest: str | None
    policy: Policy | None = None
    problem: str = ""
    figures: ShadowFigures = field(default_factory=ShadowFigures)


@dataclass(frozen=True)
class Delivered:
    """Everything that a router serves by."""

    config: RouterConfig
    catalogue: Catalogue
    loaded: Loaded
    digest: str = ""
    """Of the configuration."""
    refused: Refused | None = None
    candidate: Candidate | None = None


class Delivery:
    """Looks into the folders of ``sources``. One object serves one router; its methods block on the disk."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._config = Watched(sources.config, MAX_BYTES)
        self._policy: Watched | None = None
        self._candidate = None if sources.candidate is None else Watched(sources.candidate, MAX_ARTIFACT_BYTES)
        self._loaded_for: RouterConfig | None = None

    @property
    def changing(self) -> bool:
        """Whether a folder was met while it was being written, so that it should be looked at again soon."""
        return any(each is not None and each.changing for each in (self._config, self._policy, self._candidate))

    def first(self) -> Delivered:
        """What to start with. Raises ConfigurationError and StartupError."""
        found = self._config.first()
        config = _config_of(found)
        catalogue = catalogue_of(config.scenario)
        loaded = self._load(config, catalogue, self._policy_anew(config))
        new = Delivered(config, catalogue, loaded, found.digest or "")
        return (
            new if self._candidate is None else replace(new, candidate=self._candidate_of(new, self._candidate.first()))
        )

    def look(self, now: Delivered) -> Delivered | None:
        """What to serve by instead of ``now``, or None; parts that did not change are the same objects."""
        new = self._configured(now)
        # True also after a configuration that was read but came to nothing: what lies here was read for that one.
        anew = self._loaded_for is not now.config
        if new.config is now.config:
            policy = self._policy_anew(new.config) if anew else self._policy.look() if self._policy else None
            if anew or policy is not None:
                new = replace(new, loaded=self._load(new.config, new.catalogue, policy))
        found = None
        if self._candidate is not None:
            found = self._candidate.first() if anew else self._candidate.look()
        if found is not None:
            new = replace(new, candidate=self._candidate_of(new, found))
        return None if new == now else new

    def _configured(self, now: Delivered) -> Delivered:
        """``now`` with whatever configuration has come, or with the reason why that one does not serve."""
        found = self._config.look()
        if found is None:
            return now
        try:
            config = _config_of(found)
            if config == now.config:
                return replace(now, digest=found.digest or "", refused=None)
            if (config.listen, config.admin) != (now.config.listen, now.config.admin):
                where = f"{found.source}: listen, admin"
                raise ConfigurationError(f"{where}: cannot change while the router runs; restart it")
            catalogue = catalogue_of(config.scenario)
            loaded = self._load(config, catalogue, self._policy_anew(config))
        except BestEffortError as error:
            log.error("the configuration is refused, the one before goes on: %s", error)
            return replace(now, refused=Refused(found.digest, str(error)))
        return replace(now, config=config, catalogue=catalogue, loaded=loaded, digest=found.digest or "", refused=None)

    def _policy_anew(self, config: RouterConfig) -> Snapshot | None:
        """What lies in the folder of the artifact that ``config`` asks for; None where it asks for none."""
        self._loaded_for = None
        folder = artifact_folder(config.policy, self._sources.policy)
        if folder is None:
            self._policy = None
            return None
        if self._policy is None or self._policy.path != folder:
            self._policy = Watched(folder, MAX_ARTIFACT_BYTES)
        return self._policy.first()

    def _load(self, config: RouterConfig, catalogue: Catalogue, found: Snapshot | None) -> Loaded:
        loaded = decider.load(config, catalogue, found)
        self._loaded_for = config
        if loaded.problem:
            log.error(
                "policy %s cannot be used, %s decides: %s", config.policy.type, loaded.policy.name, loaded.problem
            )
        else:
            log.info("policy %s decides%s", loaded.name, f" by {loaded.digest}" if loaded.digest else "")
        return loaded

    def _candidate_of(self, now: Delivered, found: Snapshot) -> Candidate | None:
        """The candidate for what serves now; its figures go on while its files are the same."""
        if not (found.files or found.problem):
            return None
        before = now.candidate
        figures = before.figures if before is not None and before.digest == found.digest else ShadowFigures()
        try:
            policy = learned_policy(artifact_of(found), now.config.scenario, now.catalogue)
        except BestEffortError as error:
            log.error("the candidate cannot be used: %s", error)
            return Candidate(found.digest, None, str(error), figures)
        log.info("candidate %s decides in shadow by %s", policy.name, found.digest)
        return Candidate(found.digest, policy, "", figures)


def _config_of(found: Snapshot) -> RouterConfig:
    if found.problem:
        raise ConfigurationError(found.problem)
    return RouterConfig.of_files(found.files, found.source)
