"""What a router says of itself on its admin port (`/status`), as the operator and people read it.

Counters count from the router's start; ``boot_id`` tells one start from the next. Fields may be added within a version,
and a reader ignores those that it does not know: operator and routers are not always of one release.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bes_api.config_map import Digest

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ConfigurationStatus(_Told):
    """The configuration that serves, and the last one that was refused instead of it."""

    digest: Digest
    """`bes_api.config_map.data_digest` of the files it was read from."""
    refused_digest: Digest | None = None
    """None also where nothing could be read."""
    problem: str | None = None
    """Why what lies in its folder does not serve; None: it does."""


class PolicyStatus(_Told):
    """What decides. With ``fallback`` the stated rule does, and ``problem`` says why."""

    asked: str
    """The policy's type in the configuration."""
    name: str
    """As in x-bes-policy, without what that says of a fallback."""
    digest: Digest | None = None
    """Of the artifact that decides; None: a rule does."""
    trained_for: Digest | None = None
    """Scenario for which that artifact was trained; it need not be the one that serves."""
    fallback: bool
    reason: str | None = None
    """In one word: absent, unreadable, misfit."""
    problem: str | None = None
    failures: Count
    """Decisions that the fallback rule had to take over."""


class CandidateStatus(_Told):
    """An artifact in shadow: it decides a sample of requests again and routes none."""

    digest: Digest | None = None
    name: str | None = None
    problem: str | None = None
    """Why it cannot decide; None: it can."""
    decisions: Count = 0
    same_model: Count = 0
    """Decisions for the same model as the active policy's."""
    same_engine: Count = 0
    failures: Count = 0
    """Decisions that raised, or could not have been carried out; they count nowhere else but in ``decisions``."""
    slow: Count = 0
    """Decisions longer than ``slow_microseconds``."""
    slow_microseconds: Amount
    mean_microseconds: Amount | None = None
    slowest_microseconds: Amount = 0.0
    last_failure: str | None = None


class TaskStatus(_Told):
    """One task. Every request is in exactly one of the five counts."""

    name: str
    in_time: Count
    late: Count
    failed: Count
    client_gone: Count
    client_fault: Count
    reward: Amount
    peak_reward: Amount
    decisions: dict[str, Count]
    """By model."""

    @property
    def requests(self) -> int:
        """All of them."""
        return self.in_time + self.late + self.failed + self.client_gone + self.client_fault


class LoadStatus(_Told):
    """Where load figures come from and how good they are."""

    source: str
    age_seconds: Amount | None = None
    """Of the newest figure; None: there was none."""
    known: Count
    """Listed backends whose figure is known."""
    listed: Count
    share: Annotated[float, Field(ge=0, le=1)]
    """Of the traffic that this router believes to be its own."""
    problem: str | None = None


class DiscoveryStatus(_Told):
    """Where engines are found and whether that is up to date. What was found last serves in any case."""

    source: str
    """static or endpointslices."""
    age_seconds: Amount | None = None
    """Since the API server was last heard, a minute where nothing changes; None: never yet, or there is none."""
    lists: Count = 0
    failures: Count = 0
    """Questions to the API server without a usable answer."""
    waiting: Count = 0
    """Pods beyond the replicas of their model's range, which get no requests."""
    without_endpoints: tuple[str, ...] = ()
    """Services that have no pod, ready or not."""
    groups_not_told_apart: tuple[str, ...] = ()
    """Accelerator groups with nodes that hold several of its GPUs: who shares one there is a guess."""
    problem: str | None = None
    """Why the API server cannot be heard just now; None: it can."""


class RouterStatus(_Told):
    """See the module."""

    version: Literal[1] = 1
    service: str
    boot_id: str
    started_at: Amount
    """Unix time."""
    uptime_seconds: Amount
    ready: bool
    draining: bool
    configuration: ConfigurationStatus
    policy: PolicyStatus
    candidate: CandidateStatus | None = None
    """None: no candidate folder, or nothing in it."""
    tasks: tuple[TaskStatus, ...]
    errors: dict[str, Count]
    """Requests not answered as asked, by reason; those that never happened are absent."""
    load: LoadStatus
    discovery: DiscoveryStatus
    in_flight: Count
    connections: Count
    backends_ready: Count
    backends_listed: Count
    versions: dict[str, str]
