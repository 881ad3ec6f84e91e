"""The engine of one model: what the model's own says, and beyond that what the service's says, member by member."""

from dataclasses import dataclass

from bes_api.errors import ScenarioError
from bes_api.service import (
    Engine,
    EnginePod,
    EngineType,
    Model,
    ModelCache,
    ObjectReference,
    SecretReference,
    ServiceSpec,
)


@dataclass(frozen=True)
class ResolvedEngine:
    """Everything that the resource states of one model's engine; None: it states nothing."""

    type: EngineType
    image: str | None
    image_pull_policy: str | None
    image_pull_secrets: tuple[ObjectReference, ...]
    args: tuple[str, ...]
    model_cache: ModelCache | None
    hub_token_secret_ref: SecretReference | None
    pod: EnginePod


def engine_of(spec: ServiceSpec, model: Model) -> ResolvedEngine:
    """The engine of ``model``. Raises ScenarioError where neither it nor the service states a type.

    An image and its arguments mean nothing to another program: they are inherited only where the type is the same.
    """
    own, shared = model.engine or Engine(), spec.engine or Engine()
    kind = own.type or shared.type
    if kind is None:
        raise ScenarioError(f"model {model.name!r} has no engine: set spec.engine.type or the model's own")
    merged = shared.model_copy(update=_stated(own))
    same_program = kind is shared.type
    return ResolvedEngine(
        type=kind,
        image=merged.image if same_program else own.image,
        image_pull_policy=merged.image_pull_policy,
        image_pull_secrets=merged.image_pull_secrets or (),
        args=(merged.args if same_program else own.args) or (),
        model_cache=merged.model_cache,
        hub_token_secret_ref=merged.hub_token_secret_ref,
        pod=pod_of(shared.pod, own.pod),
    )


def pod_of(shared: EnginePod | None, own: EnginePod | None) -> EnginePod:
    """The shape of a model's pods: each member as the model states it, else as the service does.

    Volumes and their mounts belong together: a model that states one of them inherits neither.
    """
    own, shared = own or EnginePod(), shared or EnginePod()
    if own.volumes is not None or own.volume_mounts is not None:
        shared = shared.model_copy(update={"volumes": None, "volume_mounts": None})
    return shared.model_copy(update=_stated(own))


def _stated(part: Engine | EnginePod) -> dict[str, object]:
    return {name: value for name in type(part).model_fields if (value := getattr(part, name)) is not None}
