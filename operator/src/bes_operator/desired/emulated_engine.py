"""An emulated engine's container: one pod is one replica on an emulated GPU of its own."""

import hashlib
from typing import Any

from bes_api.engines import ENGINES
from bes_api.engines.facts import Probe
from bes_api.resolved_engine import ResolvedEngine
from bes_api.scenario import Scenario
from bes_api.service import EngineType, Model
from bes_operator.desired.engine_part import EnginePart
from bes_operator.desired.files import config_map
from bes_operator.desired.pods import HTTP, RESTRICTED, RESTRICTED_POD, folder, http_probe, own_image, pull_secrets
from bes_operator.desired.request import Desired
from bes_operator.labels import Component
from bes_operator.manifest import Manifest
from bes_operator.names import scenario_name

PORT = 8000
FOLDER = "/etc/best-effort/scenario"
FILE = "scenario.json"
CHECKSUM = "besteffort.dev/emulated"
"""Annotation of a pod: what the engine read at its start, and does not follow."""
DRAIN_SECONDS = 5
STOP_SECONDS = 15
START_SECONDS = 120
"""A Python program on a busy node; nothing is loaded."""


def emulated_engine_part(request: Desired, model: Model, engine: ResolvedEngine, scenario: Scenario) -> EnginePart:
    """What it needs follows from the scenario alone."""
    images = request.settings.images
    health = ENGINES[EngineType.EMULATED].health_path
    volume, mount = folder("scenario", {"configMap": {"name": scenario_name(request.service.name)}}, FOLDER)
    container: dict[str, Any] = {
        **own_image(engine.image or images.engine, images),
        "command": ["python", "-m", "bes_lab.engine"],
        "args": [f"{FOLDER}/{FILE}", "--model", model.name, "--host", "0.0.0.0", "--port", str(PORT), *engine.args],  # noqa: S104 - routers reach a pod by its address
        "volumeMounts": [mount],
        "startupProbe": http_probe(Probe(health, period_seconds=1, failures=START_SECONDS), HTTP),
        "readinessProbe": http_probe(Probe(health, period_seconds=2, failures=3), HTTP),
        "livenessProbe": http_probe(Probe(health, period_seconds=10, failures=6), HTTP),
        "securityContext": dict(RESTRICTED),
    }
    if engine.image_pull_policy is not None:
        container["imagePullPolicy"] = engine.image_pull_policy
    secrets = [secret.name for secret in engine.image_pull_secrets] or images.pull_secrets
    return EnginePart(
        port=PORT,
        container=container,
        start_seconds=START_SECONDS,
        drain_seconds=DRAIN_SECONDS,
        stop_seconds=STOP_SECONDS,
        pod={"volumes": [volume], "securityContext": dict(RESTRICTED_POD), **pull_secrets(secrets)},
        annotations={CHECKSUM: _read_at_start(model, scenario)},
    )


def scenario_objects(request: Desired, scenario: Scenario, types: set[EngineType]) -> tuple[Manifest, ...]:
    """The scenario as emulated engines read it, where there are any."""
    if EngineType.EMULATED not in types:
        return ()
    files = {FILE: (scenario.model_dump_json(indent=2) + "\n").encode()}
    return (config_map(request, scenario_name(request.service.name), Component.ENGINE, files),)


def _read_at_start(model: Model, scenario: Scenario) -> str:
    """Digest of the model's own part: other models, and how many replicas there are, change nothing in an engine."""
    own = next(each for each in scenario.models if each.name == model.name)
    read = own.model_dump_json(exclude={"placement", "min_replicas"})
    return hashlib.sha256(read.encode()).hexdigest()[:16]
