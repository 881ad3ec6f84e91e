"""What the operator has decided about a service's policies, in one ConfigMap: the memory of the whole way.

Everything else (Jobs, pods, artifacts, what routers say) is looked at anew in every pass. The ledger changes only where
something was decided, so a pass without news writes nothing.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bes_api.conditions import Instant, Number, Reason, StatusPart, Text
from bes_api.config_map import Digest
from bes_api.errors import ConfigurationError
from bes_api.handover import parse_document
from bes_api.router_config import RulePolicy
from bes_api.scenario import Scenario
from bes_api.service_status import TrainingState
from bes_operator.manifest import Manifest

LEDGER = "ledger.json"
MOST_TRAININGS, MOST_REFUSED = 32, 8
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Stage(StrEnum):
    """How far an artifact has come."""

    SHADOW = "Shadow"
    """It passed the gate and decides beside what routes."""
    PROVEN = "Proven"
    """It passed the shadow too, or was pinned: it may route."""
    RULE = "RuleIsEnough"
    """It passed no gate, but the rule that it was judged against may route."""
    REFUSED = "Refused"


class Judged(StatusPart):
    """The figures of a gate, in shares of peak."""

    score: Finite
    rule: str
    """The comparator as the report calls it."""
    rule_score: Finite
    gain: Finite
    gain_low: Finite
    differs: Finite
    workloads: Number


class PolicyRecord(StatusPart):
    """One artifact."""

    digest: Digest
    config_map: str
    """Where its files are."""
    origin: Literal["Trained", "Imported"]
    kind: Literal["Learned", "Paper"]
    scenario: Digest
    """For which it was trained."""
    likeness: Digest
    """The same without the training's revision."""
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    stage: Stage
    since: Instant
    """In this stage."""
    shadow_since: Instant | None = None
    """When every router had it in shadow; None: not yet."""
    judged: Judged | None = None
    rule: RulePolicy | None = None
    """What routes instead in stage RULE."""
    reason: Reason | None = None
    message: Text = ""


class TrainingRecord(StatusPart):
    """One training; its scenario is never trained again while this stands."""

    scenario: Digest
    revision: Number
    job: str
    state: TrainingState
    since: Instant
    attempts: Number = 0
    digest: Digest | None = None
    """What a succeeded pod of the Job said."""
    reason: Reason | None = None
    message: Text = ""


class Retired(StatusPart):
    """One stretch of time in which a policy routed; or the moment of a refusal."""

    name: str
    digest: Digest
    score: Finite | None = None
    since: Instant
    until: Instant
    reason: str
    message: Text = ""


class Ledger(StatusPart):
    """See the module. Records are in the order in which they came."""

    version: Literal[1] = 1
    policies: tuple[PolicyRecord, ...] = ()
    trainings: tuple[TrainingRecord, ...] = ()
    active: Digest | None = None
    """The artifact that routes, or whose rule does; None: the stated fallback."""
    by_rule: bool = False
    """Whether that artifact's rule routes, not its weights."""
    active_since: Instant | None = None
    delivered: bool = False
    """Whether every ready router has reported it since."""
    retired: tuple[Retired, ...] = Field(default=(), max_length=32)
    """Newest first."""

    def policy(self, digest: str | None) -> PolicyRecord | None:
        """The record of an artifact."""
        return next((each for each in self.policies if each.digest == digest), None)

    def training(self, scenario: str | None) -> TrainingRecord | None:
        """The record of a training."""
        return next((each for each in self.trainings if each.scenario == scenario), None)

    def with_policy(self, record: PolicyRecord) -> "Ledger":
        """``record`` in the place of an older one of that digest."""
        if self.policy(record.digest) is None:
            return self.model_copy(update={"policies": (*self.policies, record)})
        kept = tuple(record if each.digest == record.digest else each for each in self.policies)
        return self.model_copy(update={"policies": kept})

    def with_training(self, record: TrainingRecord) -> "Ledger":
        """``record`` in the place of an older one of that scenario."""
        if self.training(record.scenario) is None:
            return self.model_copy(update={"trainings": (*self.trainings, record)[-MOST_TRAININGS:]})
        kept = tuple(record if each.scenario == record.scenario else each for each in self.trainings)
        return self.model_copy(update={"trainings": kept})

    def without(self, digests: Iterable[str] = (), scenarios: Iterable[str] = ()) -> "Ledger":
        """Without those records."""
        gone, forgotten = set(digests), set(scenarios)
        return self.model_copy(
            update={
                "policies": tuple(each for each in self.policies if each.digest not in gone),
                "trainings": tuple(each for each in self.trainings if each.scenario not in forgotten),
            }
        )


def ledger_name(service: str) -> str:
    """Its ConfigMap."""
    return f"{service}-policies"


def read_ledger(config_map: Manifest | None) -> Ledger | None:
    """The ledger; None where it is not there or cannot be read, so that it must be made again."""
    if config_map is None:
        return None
    text = (config_map.get("data") or {}).get(LEDGER)
    if not isinstance(text, str):
        return None
    try:
        return parse_document(Ledger, text.encode(), LEDGER)
    except (ConfigurationError, ValidationError):
        return None


def write_ledger(ledger: Ledger, metadata: Mapping[str, Any]) -> Manifest:
    """Its ConfigMap; the same ledger gives the same bytes."""
    content = ledger.model_dump(mode="json", by_alias=True, exclude_none=True)
    data = {LEDGER: json.dumps(content, indent=1, sort_keys=True)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(metadata), "data": data}


def likeness_of(scenario: Scenario) -> str:
    """Content hash of the same service, whichever revision of its training."""
    return scenario.model_copy(update={"training_revision": 1}).content_hash()


def instant(now: datetime) -> datetime:
    """To the second, as it is written, so that what is read back is the same."""
    return now.replace(microsecond=0)
