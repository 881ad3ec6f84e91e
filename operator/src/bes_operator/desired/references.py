"""ConfigMaps and Secrets that a service names and that must be there before a pod which mounts them can start."""

from collections.abc import Iterator
from dataclasses import dataclass

from bes_api.resolved_engine import engine_of
from bes_api.service import BestEffortService, Load, Model, Pod, ServiceSpec
from bes_api.service_status import Reason
from bes_operator.manifest import Key

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"  # noqa: S105 - a kind, not a secret


@dataclass(frozen=True)
class Reference:
    """One object that is named, and the field that names it."""

    kind: str
    name: str
    field: str

    def key(self, namespace: str) -> Key:
        """Its identity beside the service."""
        return Key(self.kind, namespace, self.name)

    @property
    def reason(self) -> Reason:
        """What a condition says when it is not there."""
        return Reason.SECRET_MISSING if self.kind == SECRET else Reason.CONFIG_MAP_MISSING


def references(service: BestEffortService) -> tuple[Reference, ...]:
    """Everything that whoever reconciles looks for; profiles apart, whose content matters."""
    spec = service.spec
    found = [*router_references(spec), *load_references(spec.load)]
    for model in spec.models:
        found += engine_references(spec, model)
    return tuple(dict.fromkeys(found))


def profile_names(service: BestEffortService) -> tuple[str, ...]:
    """ConfigMaps that hold the models' latency profiles."""
    profiles = (model.profile for model in service.spec.models)
    return tuple(dict.fromkeys(each.config_map_ref.name for each in profiles if each and each.config_map_ref))


def missing_message(reference: Reference) -> str:
    """What is wrong, with the mend."""
    return f"{reference.field} names the {reference.kind} {reference.name!r}, which is not there: create it"


def load_references(load: Load | None) -> tuple[Reference, ...]:
    """What routers need to ask Prometheus."""
    if load is None or load.prometheus is None:
        return ()
    found, field = [], "spec.load.prometheus"
    if (ca := load.prometheus.ca_config_map_ref) is not None:
        found.append(Reference(CONFIG_MAP, ca.name, f"{field}.caConfigMapRef"))
    if (secret := load.prometheus.authorization_secret_ref) is not None:
        found.append(Reference(SECRET, secret.name, f"{field}.authorizationSecretRef"))
    return tuple(found)


def router_references(spec: ServiceSpec) -> tuple[Reference, ...]:
    """What the routers' pods cannot start without."""
    return tuple(_of_pod(spec.router.pod, "spec.router.pod"))


def engine_references(spec: ServiceSpec, model: Model) -> tuple[Reference, ...]:
    """What the pods of a model's engines cannot start without."""
    engine, field = engine_of(spec, model), f"the engine of model {model.name!r}"
    found = list(_of_pod(engine.pod, f"{field}: pod"))
    if engine.hub_token_secret_ref is not None:
        found.append(Reference(SECRET, engine.hub_token_secret_ref.name, f"{field}: hubTokenSecretRef"))
    return tuple(found)


def _of_pod(pod: Pod | None, field: str) -> Iterator[Reference]:
    for variable in (pod and pod.env) or ():
        source = variable.value_from
        if source is None:
            continue
        for kind, reference in ((SECRET, source.secret_key_ref), (CONFIG_MAP, source.config_map_key_ref)):
            if reference is not None and not reference.optional:
                yield Reference(kind, reference.name, f"{field}.env[{variable.name}]")
    for volume in (pod and pod.volumes) or ():
        where = f"{field}.volumes[{volume.name}]"
        if volume.secret is not None and not volume.secret.optional:
            yield Reference(SECRET, volume.secret.secret_name, where)
        if volume.config_map is not None and not volume.config_map.optional:
            yield Reference(CONFIG_MAP, volume.config_map.name, where)
