"""Rules about models: their accelerators, replicas, profiles and device claims.

That requests stay below limits is no rule: the API server says it of the Deployment, and comparing quantities would
cost more here than all other rules together.
"""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

from collections.abc import Iterable

from bes_api.location import Location
from bes_api.presets import LATENCY_PRESETS, PRESET_DEVICE_CLASS, PRESET_OF_MODEL_ID
from bes_api.rules.rule import Rule, broken, exactly_one
from bes_api.service import (
    AcceleratorGroup,
    Model,
    PodClaim,
    Profile,
    ReplicaRange,
    ServiceSpec,
    Sharing,
)


def group_memory(spec: ServiceSpec) -> Iterable[Location]:
    for i, group in enumerate(spec.accelerator_groups):
        on_fullest = sum(  # GPU 0 holds replicas 0, gpus, 2 gpus, ... of every model
            -(-model.max_replicas // group.gpus) * model.accelerator.memory_percent
            for model in spec.models
            if model.accelerator is not None and model.accelerator.group == group.name
        )
        yield from broken(on_fullest > 100, "acceleratorGroups", i)


def preset_class(spec: ServiceSpec) -> Iterable[Location]:
    classes = {group.name: group.device_class for group in spec.accelerator_groups}
    for i, model in enumerate(spec.models):
        if model.accelerator is None or (model.profile is not None and model.profile.config_map_ref is not None):
            continue
        device_class = classes.get(model.accelerator.group, PRESET_DEVICE_CLASS)
        yield from broken(device_class != PRESET_DEVICE_CLASS, "models", i, "profile")


def interference_unmeasured(group: AcceleratorGroup) -> Iterable[Location]:
    return broken(group.sharing is Sharing.MPS and group.interference_percent is None)


def replicas_union(model: Model) -> Iterable[Location]:
    return broken(not exactly_one(model.replicas, model.replica_range))


def range_order(replicas: ReplicaRange) -> Iterable[Location]:
    return broken(replicas.min > replicas.max)


def profile_union(profile: Profile) -> Iterable[Location]:
    return broken(not exactly_one(profile.preset, profile.config_map_ref))


def unknown_preset(profile: Profile) -> Iterable[Location]:
    return broken(profile.preset is not None and profile.preset not in LATENCY_PRESETS, "preset")


def profile_missing(model: Model) -> Iterable[Location]:
    return broken(model.profile is None and model.model_id not in PRESET_OF_MODEL_ID, "profile")


def claim_unknown(model: Model) -> Iterable[Location]:
    names = {claim.name for claim in model.resource_claims or ()}
    for i, claim in enumerate((model.resources.claims if model.resources else None) or ()):
        yield from broken(claim.name not in names, "resources", "claims", i, "name")


def claim_union(claim: PodClaim) -> Iterable[Location]:
    return broken(not exactly_one(claim.resource_claim_name, claim.resource_claim_template_name))


def _listed(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


RULES: tuple[Rule, ...] = (
    Rule(
        "group-memory",
        ("spec",),
        "the models of this group take more than 100 percent of its fullest GPU (replica i of each sits on GPU i mod "
        "gpus, ranges count at their maximum): lower memoryPercent or replicas, or add gpus",
        group_memory,
        "!has(self.acceleratorGroups) || self.acceleratorGroups.all(g, self.models.map(m, "
        "has(m.accelerator) && m.accelerator.group == g.name ? "
        "((has(m.replicaRange) ? m.replicaRange.max : has(m.replicas) ? m.replicas : 0) + g.gpus - 1) / g.gpus "
        "* m.accelerator.memoryPercent : 0).sum() <= 100)",
        "acceleratorGroups",
    ),
    Rule(
        "preset-class",
        ("spec",),
        f"latency presets were measured on {PRESET_DEVICE_CLASS} and this model's group has another class: measure a "
        "profile and name it by profile.configMapRef",
        preset_class,
        "!has(self.acceleratorGroups) || self.models.all(m, !has(m.accelerator) || "
        "(has(m.profile) && has(m.profile.configMapRef)) || self.acceleratorGroups.all(g, "
        f"g.name != m.accelerator.group || g.class == '{PRESET_DEVICE_CLASS}'))",
        "models",
    ),
    Rule(
        "interference-unmeasured",
        ("spec.acceleratorGroups[*]",),
        "how much models disturb each other under MPS must be measured: set interferencePercent",
        interference_unmeasured,
        "self.sharing != 'MPS' || has(self.interferencePercent)",
    ),
    Rule(
        "replicas-union",
        ("spec.models[*]",),
        "a model has either a number of replicas or a range: set exactly one of replicas and replicaRange",
        replicas_union,
        "has(self.replicas) != has(self.replicaRange)",
    ),
    Rule(
        "replica-range-order",
        ("spec.models[*].replicaRange",),
        "min is above max: raise max or lower min",
        range_order,
        "self.min <= self.max",
    ),
    Rule(
        "profile-union",
        ("spec.models[*].profile",),
        "a profile has one origin: set exactly one of preset and configMapRef",
        profile_union,
        "has(self.preset) != has(self.configMapRef)",
    ),
    Rule(
        "preset-unknown",
        ("spec.models[*].profile",),
        f"no preset has this name: choose one of {', '.join(LATENCY_PRESETS)}, or give a profile by configMapRef",
        unknown_preset,
        f"!has(self.preset) || self.preset in {_listed(LATENCY_PRESETS)}",
        "preset",
    ),
    Rule(
        "profile-missing",
        ("spec.models[*]",),
        "nothing is known of this modelID's latency: give the profile of a similar model by profile.preset, or a "
        "measured one by profile.configMapRef",
        profile_missing,
        f"has(self.profile) || self.modelID in {_listed(PRESET_OF_MODEL_ID)}",
        "profile",
    ),
    Rule(
        "claim-unknown",
        ("spec.models[*]",),
        "no device claim of the model has this name: add it to resourceClaims, or name one that is there",
        claim_unknown,
        "!has(self.resources) || !has(self.resources.claims) || self.resources.claims.all(c, "
        "has(self.resourceClaims) && self.resourceClaims.exists(d, d.name == c.name))",
        "resources.claims",
    ),
    Rule(
        "claim-union",
        ("spec.models[*].resourceClaims[*]",),
        "a device claim has one origin: set exactly one of resourceClaimName and resourceClaimTemplateName",
        claim_union,
        "has(self.resourceClaimName) != has(self.resourceClaimTemplateName)",
    ),
)
