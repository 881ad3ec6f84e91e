"""What a pass over one service decides: everything that it rests on is read, then pure functions say what is to be."""

from collections.abc import Mapping
from dataclasses import dataclass

from bes_api.scenario import Scenario
from bes_api.service import BestEffortService
from bes_operator.desired.objects import desired_objects
from bes_operator.desired.references import profile_names, references
from bes_operator.desired.request import Desired, Wanted
from bes_operator.desired.scenario import cluster_scenario
from bes_operator.errors import Refusal
from bes_operator.labels import Component
from bes_operator.manifest import Apply, Key, Manifest, key_of
from bes_operator.outside import Outside
from bes_operator.policy.plan import plan
from bes_operator.policy.seen import PolicyPlan, PolicySeen
from bes_operator.seen import Seen
from bes_operator.view import with_component


@dataclass(frozen=True)
class Decision:
    """What is to be, before any of it is done."""

    wanted: Wanted
    plan: PolicyPlan
    rests_on: frozenset[Key]
    """What others own."""

    @property
    def steps(self) -> tuple[Apply, ...]:
        """All of it; what a policy needs comes after what its pods run as."""
        return (*self.wanted.steps, *self.plan.steps)

    @property
    def keep(self) -> frozenset[Key]:
        """What must not be pruned."""
        return frozenset(key_of(step.manifest) for step in self.steps) | self.wanted.keep | self.plan.kept


@dataclass(frozen=True)
class Situation:
    """One service that can be read, as it is now."""

    service: BestEffortService
    uid: str
    seen: Seen
    admin_token: str
    trainings: tuple[Manifest, ...]
    """Of all services."""


async def decide(situation: Situation, outside: Outside) -> Decision:
    """See the module. ClusterError: something could not be read."""
    service, namespace = situation.service, situation.seen.namespace
    profiles = {name: Key("ConfigMap", namespace, name) for name in profile_names(service)}
    named = {reference.key(namespace) for reference in references(service)}
    imported = _imported(service, namespace)
    rests_on = frozenset({*profiles.values(), *named, *([imported] if imported else [])})
    there = await outside.read(sorted(rests_on))
    found = {name: there[key] for name, key in profiles.items() if key in there}
    planned = plan(_policy_seen(situation, _scenario(service, found), there.get(imported) if imported else None))
    request = Desired(
        service=service,
        namespace=namespace,
        uid=situation.uid,
        settings=situation.seen.settings,
        admin_token=situation.admin_token,
        policy=planned.part,
        profiles=found,
        missing=frozenset(named - there.keys()),
        live=situation.seen.live,
    )
    return Decision(desired_objects(request), planned, rests_on)


def _imported(service: BestEffortService, namespace: str) -> Key | None:
    imported = service.spec.policy.source.imported
    return None if imported is None else Key("ConfigMap", namespace, imported.config_map_name)


def _scenario(service: BestEffortService, profiles: Mapping[str, Manifest]) -> Scenario | None:
    try:
        return cluster_scenario(service, profiles)
    except Refusal:
        return None  # desired_objects says why


def _policy_seen(situation: Situation, scenario: Scenario | None, imported: Manifest | None) -> PolicySeen:
    seen = situation.seen
    return PolicySeen(
        service=situation.service,
        namespace=seen.namespace,
        uid=situation.uid,
        scenario=scenario,
        settings=seen.settings,
        now=seen.now,
        config_maps=with_component(seen.live, "ConfigMap", Component.POLICY),
        jobs=with_component(seen.live, "Job", Component.TRAINING),
        pods=with_component(seen.live, "Pod", Component.TRAINING),
        trainings=situation.trainings,
        imported=imported,
        routers=seen.routers,
        previous=seen.previous.policy,
    )
