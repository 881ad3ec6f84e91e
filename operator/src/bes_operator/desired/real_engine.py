"""A real engine's container, from what its project documents (`bes_api.engines`)."""

from typing import Any

from bes_api.engines import ENGINES
from bes_api.engines.chat_template import brings_no_template
from bes_api.engines.facts import Launch, Program
from bes_api.resolved_engine import ResolvedEngine, engine_of
from bes_api.scenario import Scenario
from bes_api.service import EngineType, Model, ModelCache, written
from bes_operator.desired.engine_part import EnginePart
from bes_operator.desired.files import config_map
from bes_operator.desired.pods import HTTP, UNPRIVILEGED, folder, http_probe, pull_secrets
from bes_operator.desired.request import Desired
from bes_operator.labels import Component
from bes_operator.manifest import Manifest
from bes_operator.names import chat_template_name

CHAT_TEMPLATES = "/etc/best-effort/chat-template"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's own; an engine's processes pass tensors through it
FIRST_PORT_FOR_ALL = 1024
DRAIN_SECONDS = 20
STOP_SECONDS = 40


def real_engine_part(request: Desired, model: Model, engine: ResolvedEngine, scenario: Scenario) -> EnginePart:
    """Images of others may want to be root, so the container is only kept from gaining more than it has."""
    program = _program(engine.type)
    volumes, mounts = _volumes(request, model, engine, program)
    container: dict[str, Any] = {
        "image": engine.image or program.image.reference,
        "args": list(program.arguments(_launch(model, engine, scenario))),
        "env": _environment(engine, program),
        "volumeMounts": mounts,
        "startupProbe": http_probe(program.probes.startup, HTTP),
        "readinessProbe": http_probe(program.probes.readiness, HTTP),
        "livenessProbe": http_probe(program.probes.liveness, HTTP),
        "securityContext": _context(program.port),
    }
    if engine.image_pull_policy is not None:
        container["imagePullPolicy"] = engine.image_pull_policy
    return EnginePart(
        port=program.port,
        container=container,
        start_seconds=program.probes.startup.period_seconds * program.probes.startup.failures,
        drain_seconds=DRAIN_SECONDS,
        stop_seconds=STOP_SECONDS,
        pod={"volumes": volumes, **pull_secrets(secret.name for secret in engine.image_pull_secrets)},
    )


def chat_template_objects(request: Desired) -> tuple[Manifest, ...]:
    """One ConfigMap with every form of the template that an engine of the service mounts; none if none does."""
    spec = request.service.spec
    types = {engine_of(spec, model).type for model in spec.models if brings_no_template(model.model_id)}
    templates = [program.chat_template for kind in sorted(types) if (program := ENGINES[kind].program) is not None]
    files = {template.name: template.content().encode() for template in templates}
    if not files:
        return ()
    return (config_map(request, chat_template_name(request.service.name), Component.ENGINE, files),)


def _context(port: int) -> dict[str, Any]:
    """Dropping all capabilities drops the one that binds a low port, also root's."""
    if port >= FIRST_PORT_FOR_ALL:
        return dict(UNPRIVILEGED)
    return {**UNPRIVILEGED, "capabilities": {**UNPRIVILEGED["capabilities"], "add": ["NET_BIND_SERVICE"]}}


def _program(kind: EngineType) -> Program:
    program = ENGINES[kind].program
    if program is None:
        raise LookupError(f"{kind} has no program of its own")
    return program


def _launch(model: Model, engine: ResolvedEngine, scenario: Scenario) -> Launch:
    template = _program(engine.type).chat_template.name if brings_no_template(model.model_id) else None
    return Launch(
        model_id=model.model_id,
        served_name=model.name,
        context_tokens=model.context_tokens,
        max_batch_size=next(each.max_batch_size for each in scenario.models if each.name == model.name),
        revision=model.revision,
        chat_template=None if template is None else f"{CHAT_TEMPLATES}/{template}",
        more=engine.args,
    )


def _environment(engine: ResolvedEngine, program: Program) -> list[dict[str, Any]]:
    weights, token = program.weights, engine.hub_token_secret_ref
    variables: list[dict[str, Any]] = [{"name": weights.cache_variable, "value": weights.cache_path}]
    if token is not None:
        source = {"secretKeyRef": {"name": token.name, "key": token.key}}
        variables.append({"name": weights.token_variable, "valueFrom": source})
    return variables


def _volumes(
    request: Desired, model: Model, engine: ResolvedEngine, program: Program
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        {"name": "bes-models", **_cache(engine.model_cache)},
        {"name": "bes-shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "bes-models", "mountPath": program.weights.cache_path},
        {"name": "bes-shm", "mountPath": SHARED_MEMORY},
    ]
    if brings_no_template(model.model_id):
        source = {"configMap": {"name": chat_template_name(request.service.name)}}
        volume, mount = folder("chat-template", source, CHAT_TEMPLATES)
        volumes.append(volume)
        mounts.append(mount)
    return volumes, mounts


def _cache(cache: ModelCache | None) -> dict[str, Any]:
    if cache is None:
        return {"emptyDir": {}}
    return written(cache)
