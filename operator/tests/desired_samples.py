"""Services and settings that the tests of the pure half share."""

from pathlib import Path
from typing import Any

import yaml

from bes_api.documents import load_services
from bes_api.router_config import DeliveredPolicy
from bes_api.service import BestEffortService
from bes_operator.desired.request import Desired
from bes_operator.manifest import Manifest
from bes_operator.policy.seen import PolicyPart
from bes_operator.settings import Images, OperatorSettings

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data"
EVERYTHING = DATA / "everything.yaml"
EMULATED = DATA / "emulated.yaml"
UID = "11111111-2222-3333-4444-555555555555"
IMAGES = Images(
    router="registry.example/best-effort-serving-router:0.1.0",
    training="registry.example/best-effort-serving-training:0.1.0",
    engine="registry.example/best-effort-serving-engine:0.1.0",
)
SETTINGS = OperatorSettings(
    namespace="best-effort-serving", images=IMAGES, prometheus_origins=("https://prometheus.monitoring:9090",)
)


def service_in(path: Path) -> BestEffortService:
    return load_services(path).services[0]


def profiles_in(path: Path) -> dict[str, Manifest]:
    documents = yaml.safe_load_all(path.read_text())
    return {each["metadata"]["name"]: each for each in documents if each and each["kind"] == "ConfigMap"}


def request_for(path: Path, **changes: Any) -> Desired:
    """What the operator is asked for by the service in ``path``, with ``changes`` to the request."""
    values: dict[str, Any] = {
        "service": service_in(path),
        "namespace": "apps",
        "uid": UID,
        "settings": SETTINGS,
        "admin_token": "a-token",
        "policy": PolicyPart(DeliveredPolicy()),
        "profiles": profiles_in(path),
    }
    return Desired(**(values | changes))


def changed(service: BestEffortService, change: Any) -> BestEffortService:
    """``service`` with its spec, as plain data, changed in place by ``change``."""
    data = service.model_dump(mode="json", by_alias=True, exclude_none=True)
    change(data["spec"])
    return BestEffortService.model_validate(data)
