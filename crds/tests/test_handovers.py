"""Documents between components: what contradicts itself is refused, what is written reads as itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from service_samples import parsed, sample

from bes_api.discovery_config import BackendAddress, StaticBackends
from bes_api.errors import ConfigurationError
from bes_api.handover import parse_document
from bes_api.passport import Passport, TrainingSummary, TunedRule
from bes_api.report import Comparison, EvaluationReport, TaskOutcome, WorkloadOutcome
from bes_api.router_config import (
    LearnedPolicy,
    Placement,
    PricedPolicy,
    PrometheusLoad,
    RouterConfig,
    StaticPolicy,
)
from bes_api.scenario_of import scenario_of

DIGEST = "sha256:" + "0" * 64
ENGINES = {"model": "small", "service": "opt-small", "served_model": "x"}
SLICES = {"type": "EndpointSlices", "namespace": "default", "engines": [ENGINES]}
PROMETHEUS = {"type": "Prometheus", "url": "http://prometheus:9090", "join_label": "pod"}


def _config() -> RouterConfig:
    return RouterConfig(
        service="opt",
        scenario=scenario_of(parsed(sample()), {}),
        discovery=StaticBackends(
            backends=(
                BackendAddress(
                    model="small", replica=1, address="127.0.0.1", port=8001, served_model="facebook/opt-125m"
                ),
            )
        ),
        policy=LearnedPolicy(artifact=Path("build/artifact")),
        fallback=PricedPolicy(parameters=(0.5, 1.0), placement=Placement.BUNCHED),
    )


def _passport() -> Passport:
    return Passport(
        kind="Learned",
        layout="candidate/2",
        feature_names=("quality", "load"),
        feature_offset=(0.0, 1.0),
        feature_scale=(1.0, 2.0),
        models=("small", "large"),
        tasks=("chat", "search"),
        scenario_hash=DIGEST,
        seeds=(1, 2),
        versions={"numba": "0.61.2"},
        weights_sha256=DIGEST,
        base_parameters=(0.1,),
        guessed_base_parameters=(0.3,),
        tuned_rules={"Priced": TunedRule(placement=Placement.LEAST_FINISH, parameters=(0.2,))},
        training=TrainingSummary(learner="Evolution", decisions=1_200_000, seconds=200.5, seed=2),
    )


def _report() -> EvaluationReport:
    outcome = WorkloadOutcome(
        workload="poisson-3x",
        policy="Learned",
        seed=1,
        requests=1000,
        performance=0.93,
        in_time=0.99,
        windows_above_96=0.5,
        windows_above_98=0.25,
        per_task={"chat": TaskOutcome(requests=500, performance=0.9, in_time=1.0)},
        differs=0.2,
    )
    comparison = Comparison(
        policy="Learned", against="Priced", mean=0.02, low=0.01, high=0.03, worst=-0.005, worst_workload="walk", n=30
    )
    return EvaluationReport(
        scenario_hash=DIGEST, base_rate=62.0, outcomes=(outcome,), comparisons=(comparison,), comparator="Priced"
    )


@pytest.mark.parametrize("make", [_config, _passport, _report])
def test_a_document_survives_its_file(make: Callable[[], Any], tmp_path: Path) -> None:
    document = make()
    path = tmp_path / "document.json"
    document.write(path)
    assert type(document).read(path) == document
    as_yaml = tmp_path / "document.yaml"
    as_yaml.write_text(yaml.safe_dump(document.model_dump(mode="json")))
    assert type(document).read(as_yaml) == document
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["document.json", "document.yaml"]


@pytest.mark.parametrize("make", [_config, _passport, _report])
def test_another_version_and_unknown_fields_are_refused(make: Callable[[], Any]) -> None:
    data = make().model_dump(mode="json")
    for change, field in (({"version": 2}, "version"), ({"extra": 1}, "extra")):
        with pytest.raises(ConfigurationError, match=f"^x.json: {field}: "):
            parse_document(type(make()), json.dumps(data | change).encode(), "x.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": {"type": "Static", "model": "none"}}, "'none' is not in the scenario"),
        ({"fallback": {"type": "Learned", "artifact": "x"}}, "fallback: "),
        ({"discovery": {"type": "Static", "backends": [{"model": "small"}]}}, "discovery.Static.backends.0.address: "),
        ({"discovery": SLICES | {"engines": []}}, "discovery.EndpointSlices.engines: "),
        ({"discovery": SLICES | {"engines": [ENGINES | {"model": "none"}]}}, "'none' is not in the scenario"),
        ({"discovery": SLICES | {"engines": [ENGINES, ENGINES | {"service": "b"}]}}, "model 'small' is listed twice"),
        (
            {"discovery": SLICES | {"engines": [ENGINES, ENGINES | {"model": "b"}]}},
            "service 'opt-small' is listed twice",
        ),
        ({"discovery": SLICES | {"namespace": "a/b"}}, "discovery.EndpointSlices.namespace: "),
        ({"policy": {"type": "Priced", "parameters": [float("nan")]}}, "finite"),
        ({"load": {"type": "Direct", "interval_seconds": 0}}, "load.Direct.interval_seconds: "),
        ({"load": {"interval_seconds": 1}}, "load: Unable to extract tag"),
        ({"load": {"type": "Prometheus", "url": "http://a:secret@b:1"}}, "load.Prometheus.url: .*write http"),
        ({"load": PROMETHEUS}, "http://prometheus:9090 may not be asked; add it to prometheus_origins .there: none"),
        (
            {"load": PROMETHEUS, "prometheus_origins": ["https://prometheus:9090", "http://prometheus"]},
            "http://prometheus:9090 may not be asked",
        ),
        ({"prometheus_origins": ["http://prometheus:9090/path"]}, "prometheus_origins.0: .*an origin has no path"),
    ],
)
def test_a_router_configuration_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    data = _config().model_dump(mode="json") | change
    with pytest.raises(ConfigurationError, match=message):
        parse_document(RouterConfig, json.dumps(data).encode(), "x.json")


def test_a_prometheus_may_be_asked_when_its_origin_is_allowed() -> None:
    data = _config().model_dump(mode="json")
    data |= {"load": PROMETHEUS, "prometheus_origins": ["http://Prometheus:9090/"]}
    config = parse_document(RouterConfig, json.dumps(data).encode(), "x.json")
    assert isinstance(config.load, PrometheusLoad)
    assert (config.load.stale_seconds, config.load.poll_seconds, config.load.answer_seconds) == (45.0, 1.0, 5.0)


def test_engines_whose_figures_could_not_be_told_apart_are_refused() -> None:
    data = _config().model_dump(mode="json")
    backend = data["discovery"]["backends"][0] | {"replica": 0}
    data |= {"load": PROMETHEUS, "prometheus_origins": ["http://prometheus:9090"]}
    data["discovery"]["backends"] = [
        backend | {"join": "pod-a"},
        backend | {"replica": 1, "port": 9, "join": "pod-a"},
    ]
    with pytest.raises(ConfigurationError, match="two backends have pod='pod-a'"):
        parse_document(RouterConfig, json.dumps(data).encode(), "x.json")


@pytest.mark.parametrize(("model", "replica"), [("none", 0), ("small", 2)])
def test_a_backend_that_the_scenario_does_not_place_is_refused(model: str, replica: int) -> None:
    backend = {"model": model, "replica": replica, "address": "127.0.0.1", "port": 1, "served_model": "m"}
    data = _config().model_dump(mode="json") | {"discovery": {"type": "Static", "backends": [backend]}}
    with pytest.raises(ConfigurationError, match=f"'{model}' replica {replica} is not in the scenario"):
        parse_document(RouterConfig, json.dumps(data).encode(), "x.json")


def test_a_backend_is_listed_once() -> None:
    data = _config().model_dump(mode="json")
    data["discovery"]["backends"] *= 2
    with pytest.raises(ConfigurationError, match="listed twice"):
        parse_document(RouterConfig, json.dumps(data).encode(), "x.json")


def test_a_policy_is_chosen_by_its_type() -> None:
    data = _config().model_dump(mode="json") | {"policy": {"type": "Static", "model": "large"}}
    assert parse_document(RouterConfig, json.dumps(data).encode(), "x.json").policy == StaticPolicy(model="large")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "paper/1"}, "kind Learned has layout candidate/2"),
        ({"feature_scale": [1.0]}, "differ in length"),
        ({"feature_scale": [1.0, 0.0]}, "divide by zero"),
        ({"models": ["a", "a"]}, "models holds a name twice"),
        ({"weights_sha256": "sha256:1"}, "weights_sha256: "),
    ],
)
def test_a_passport_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    data = _passport().model_dump(mode="json") | change
    with pytest.raises(ConfigurationError, match=message):
        parse_document(Passport, json.dumps(data).encode(), "x.json")


def test_an_interval_that_does_not_hold_its_mean_is_refused() -> None:
    data = _report().model_dump(mode="json")
    data["comparisons"][0]["low"] = 0.021
    with pytest.raises(ConfigurationError, match=r"comparisons\.0: low <= mean <= high does not hold"):
        parse_document(EvaluationReport, json.dumps(data).encode(), "x.json")


@pytest.mark.parametrize("name", ["broken.json", "broken.yaml"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[1]", b"a: [", b"\x00", b"[" * 5000, b"!!bool maybe", b'!!int ""']
)
def test_a_broken_file_is_one_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        Passport.read(path)


def test_an_absent_file_is_one_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json: cannot be read: No such file"):
        Passport.read(tmp_path / "none.json")
