"""A fitted profile as the ConfigMap that a service names by `configMapRef`."""

import re
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from bes_api.profile import ModelProfile, ProfileData
from bes_lab.profile.measure import Profiled

_NOT_OF_A_NAME = re.compile(r"[^a-z0-9.]+")


def name_of(model: str) -> str:
    """An object's name made from a model's."""
    parts = (part.strip("-") for part in _NOT_OF_A_NAME.sub("-", model.lower()).split("."))
    return (".".join(part for part in parts if part)[:200].strip("-.") + "-profile").lstrip("-")


def config_map(profile: ModelProfile, name: str) -> dict[str, Any]:
    """The ConfigMap; its data are what `ProfileData` reads."""
    figures = {**profile.latency.model_dump(), **profile.model_dump(exclude={"latency", "source"})}
    data = {to_camel(key): f"{value:.6f}" if isinstance(value, float) else str(value) for key, value in figures.items()}
    checked = ProfileData.model_validate({**data, "source": profile.source})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": checked.model_dump(mode="json", by_alias=True),
    }


def as_yaml(profile: ModelProfile, name: str) -> str:
    """The same as YAML, a document that can stand in a service's file."""
    return yaml.safe_dump(config_map(profile, name), sort_keys=False, width=10_000, allow_unicode=True)


def as_json(profiled: Profiled, name: str) -> dict[str, Any]:
    """Everything that a machine may want of a measurement."""
    errors = profiled.errors
    return {
        "model": profiled.model,
        "profile": profiled.profile.model_dump(mode="json"),
        "requests": profiled.requests,
        "roundTripSeconds": profiled.round_trip,
        "unrest": profiled.unrest,
        "check": {
            "requests": sum(map(len, profiled.check)),
            "medianRelativeError": errors.median,
            "p90RelativeError": errors.p90,
            "meanLatencyRelativeError": errors.mean_latency,
            "batching": errors.batching.value,
        },
        "batchIsCapped": profiled.batch_is_capped,
        "configMap": config_map(profiled.profile, name),
    }
