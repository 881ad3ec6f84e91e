"""Rules about engines and the shape of pods.

That emulated engines cannot share a GPU in a cluster is no rule: `bes local up` runs such a service as it is, one
process per GPU. The operator refuses it when it reconciles (`EmulatedGPUShared`).
"""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

from collections.abc import Iterable

from bes_api.location import Location
from bes_api.rules.rule import Rule, broken, exactly_one, twice
from bes_api.service import ModelCache, Pod, ServiceSpec, Variable, VariableSource, Volume

RESERVED_PREFIX = "besteffort.dev/"
RESERVED_LABELS = ("app.kubernetes.io/managed-by",)
RESERVED_VOLUMES = "bes-"
_ENGINES = ("spec.engine", "spec.models[*].engine")
_PODS = ("spec.engine.pod", "spec.models[*].engine.pod", "spec.router.pod")


def _below(parents: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(f"{parent}.{path}" for parent in parents)


def engine_missing(spec: ServiceSpec) -> Iterable[Location]:
    if spec.engine is None or spec.engine.type is None:
        for i, model in enumerate(spec.models):
            yield from broken(model.engine is None or model.engine.type is None, "models", i)


def cache_union(cache: ModelCache) -> Iterable[Location]:
    return broken(not exactly_one(cache.persistent_volume_claim, cache.empty_dir))


def label_reserved(pod: Pod) -> Iterable[Location]:
    for key in pod.labels or ():
        yield from broken(key.startswith(RESERVED_PREFIX) or key in RESERVED_LABELS, "labels", key)


def variable_union(variable: Variable) -> Iterable[Location]:
    return broken(variable.value is not None and variable.value_from is not None)


def variable_source_union(source: VariableSource) -> Iterable[Location]:
    return broken(not exactly_one(source.secret_key_ref, source.config_map_key_ref, source.field_ref))


def volume_union(volume: Volume) -> Iterable[Location]:
    sources = (
        volume.config_map,
        volume.secret,
        volume.empty_dir,
        volume.persistent_volume_claim,
        volume.host_path,
        volume.nfs,
        volume.csi,
    )
    return broken(not exactly_one(*sources))


def volume_reserved(volume: Volume) -> Iterable[Location]:
    return broken(volume.name.startswith(RESERVED_VOLUMES), "name")


def mount_unknown(pod: Pod) -> Iterable[Location]:
    names = {volume.name for volume in pod.volumes or ()}
    for i, mount in enumerate(pod.volume_mounts or ()):
        yield from broken(mount.name not in names, "volumeMounts", i, "name")


def _one_of(*members: str) -> str:
    return f"[{', '.join(f'has(self.{member})' for member in members)}].exists_one(x, x)"


RULES: tuple[Rule, ...] = (
    Rule(
        "engine-missing",
        ("spec",),
        "this model has no engine: set spec.engine.type for all models, or engine.type here",
        engine_missing,
        "(has(self.engine) && has(self.engine.type)) || self.models.all(m, has(m.engine) && has(m.engine.type))",
        "models",
    ),
    Rule(
        "element-twice",
        (
            *_below(_ENGINES, "imagePullSecrets"),
            *_below(_PODS, "env"),
            *_below(_PODS, "volumes"),
            "spec.models[*].resourceClaims",
            "spec.models[*].resources.claims",
        ),
        "two elements of this list have this name: rename or remove one",
        twice("name", "name"),
        None,
    ),
    Rule(
        "mount-twice",
        _below(_PODS, "volumeMounts"),
        "two volumes are mounted at this path: choose another mountPath for one",
        twice("mount_path", "mountPath"),
        None,
    ),
    Rule(
        "model-cache-union",
        _below(_ENGINES, "modelCache"),
        "weights are kept in one place: set exactly one of persistentVolumeClaim and emptyDir",
        cache_union,
        "has(self.persistentVolumeClaim) != has(self.emptyDir)",
    ),
    Rule(
        "pod-label-reserved",
        _PODS,
        f"labels below {RESERVED_PREFIX} and {', '.join(RESERVED_LABELS)} are the operator's: choose another key",
        label_reserved,
        f"!has(self.labels) || self.labels.all(k, !k.startsWith('{RESERVED_PREFIX}') && "
        + " && ".join(f"k != '{label}'" for label in RESERVED_LABELS)
        + ")",
        "labels",
    ),
    Rule(
        "variable-union",
        _below(_PODS, "env[*]"),
        "a variable has one value: set at most one of value and valueFrom",
        variable_union,
        "!has(self.value) || !has(self.valueFrom)",
    ),
    Rule(
        "variable-source-union",
        _below(_PODS, "env[*].valueFrom"),
        "a variable's value comes from one place: set exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        variable_source_union,
        _one_of("secretKeyRef", "configMapKeyRef", "fieldRef"),
    ),
    Rule(
        "volume-union",
        _below(_PODS, "volumes[*]"),
        "a volume has one source: set exactly one of configMap, secret, emptyDir, persistentVolumeClaim, hostPath, nfs "
        "and csi",
        volume_union,
        _one_of("configMap", "secret", "emptyDir", "persistentVolumeClaim", "hostPath", "nfs", "csi"),
    ),
    Rule(
        "volume-reserved",
        _below(_PODS, "volumes[*]"),
        f"volumes whose name begins with {RESERVED_VOLUMES} are the operator's: choose another name",
        volume_reserved,
        f"!self.name.startsWith('{RESERVED_VOLUMES}')",
        "name",
    ),
    Rule(
        "mount-unknown",
        _PODS,
        "no volume of this pod has this name: add it to volumes beside volumeMounts, or name one that is there",
        mount_unknown,
        "!has(self.volumeMounts) || self.volumeMounts.all(v, has(self.volumes) && "
        "self.volumes.exists(w, w.name == v.name))",
        "volumeMounts",
    ),
)
