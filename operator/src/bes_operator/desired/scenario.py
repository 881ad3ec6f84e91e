"""The scenario of a service on a cluster, the same for routers, emulated engines and training."""

from collections import Counter
from collections.abc import Mapping

from pydantic import ValidationError

from bes_api.complaints import complaints
from bes_api.engines import engine_types
from bes_api.errors import ScenarioError
from bes_api.location import field_path
from bes_api.profile import ModelProfile, ProfileData
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import BestEffortService, EngineType
from bes_api.service_status import Reason
from bes_operator.desired.references import profile_names
from bes_operator.errors import Refusal
from bes_operator.manifest import Manifest


def cluster_scenario(service: BestEffortService, profiles: Mapping[str, Manifest]) -> Scenario:
    """``profiles`` are the ConfigMaps that the service names, by name. Raises Refusal."""
    try:
        scenario = scenario_of(service, {name: _profile(name, profiles) for name in profile_names(service)})
    except ScenarioError as error:
        raise Refusal(Reason.PROFILE_UNREADABLE, str(error)) from error
    _refuse_shared_emulation(service, scenario)
    return scenario


def _profile(name: str, profiles: Mapping[str, Manifest]) -> ModelProfile:
    if name not in profiles:
        raise Refusal(
            Reason.PROFILE_MISSING,
            f"the ConfigMap {name!r}, which a model names as its latency profile, is not there: create it, for example "
            "as `bes profile` writes it",
        )
    try:
        return ProfileData.model_validate(profiles[name].get("data") or {}).profile()
    except ValidationError as error:
        found = "; ".join(f"{field_path(('data', *at))}: {text}" for at, text in complaints(error, ProfileData))
        raise Refusal(Reason.PROFILE_UNREADABLE, f"the ConfigMap {name!r} is no latency profile: {found}") from error


def _refuse_shared_emulation(service: BestEffortService, scenario: Scenario) -> None:
    """One emulated GPU is one pod: neighbours in other pods would not slow each other."""
    replicas = Counter(gpu for model in scenario.models for gpu in model.placement)
    types = engine_types(service.spec)
    for model in scenario.models:
        if types.get(model.name) is EngineType.EMULATED and any(replicas[gpu] > 1 for gpu in model.placement):
            raise Refusal(
                Reason.EMULATED_GPU_SHARED,
                f"model {model.name!r} is emulated and shares a GPU, and on a cluster an emulated GPU is one pod: "
                "remove its accelerator (a GPU for each replica), or run the service by `bes local up`",
            )
