import argparse
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from bes_api.errors import ConfigurationError
from bes_api.service.pod import written
from bes_operator.settings import Images, Leadership, OperatorSettings
from bes_operator.settings_sources import FILE_VARIABLE, configure, settings_from

FLAGS = ["--namespace", "own", "--images.router", "r", "--images.training", "t", "--images.engine", "e"]
FILE = "namespace: filed\nimages: {router: fr, training: ft, engine: fe}\nworkers: 9\nwatch_namespaces: [a, b]\n"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)


def told(*flags: str) -> OperatorSettings:
    parser = argparse.ArgumentParser()
    configure(parser)
    return settings_from(parser.parse_args(flags))


def test_flags_alone_are_enough() -> None:
    settings = told(*FLAGS, "--watch-namespaces", "x", "--watch-namespaces", "y", "--no-leadership.enabled")
    assert (settings.namespace, settings.images.engine) == ("own", "e")
    assert settings.watch_namespaces == ("x", "y")
    assert not settings.leadership.enabled


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(FILE)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    monkeypatch.setenv("BES_OPERATOR_IMAGES__ROUTER", "vr")
    monkeypatch.setenv("BES_OPERATOR_NAMESPACE", "varied")
    settings = told("--namespace", "flagged")
    assert (settings.namespace, settings.images.router, settings.images.training) == ("flagged", "vr", "ft")
    assert (settings.workers, settings.watch_namespaces) == (9, ("a", "b"))


def test_where_training_pods_run_is_written_as_in_a_pod_in_flag_variable_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(FILE + "training_pod: {nodeSelector: {pool: batch}, tolerations: [{key: dedicated}]}\n")
    assert written(told("--settings-file", str(file)).training_pod) == {
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "dedicated"}],
    }
    flags = ["--training-pod.priorityClassName", "low", "--training-pod.tolerations", '{"operator": "Exists"}']
    place = {"priorityClassName": "low", "tolerations": [{"operator": "Exists"}]}
    assert written(told(*FLAGS, *flags).training_pod) == place
    monkeypatch.setenv("BES_OPERATOR_TRAINING_POD", json.dumps(place))
    assert written(told(*FLAGS).training_pod) == place


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BES_OPERATOR_DEFAULT_PROMETHEUS_URL", "")
    assert told(*FLAGS).default_prometheus_url is None


def test_the_default_prometheus_may_be_asked_without_being_listed() -> None:
    settings = told(*FLAGS, "--default-prometheus-url", "http://prometheus.monitoring:9090/prom")
    assert settings.prometheus_origins == ("http://prometheus.monitoring:9090",)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--images"),
        ([*FLAGS, "--workers", "0"], "BES_OPERATOR_WORKERS"),
        ([*FLAGS, "--leadership.duration-seconds", "5"], "--leadership"),
        ([*FLAGS, "--default-prometheus-url", "prometheus"], "--default-prometheus-url"),
        ([*FLAGS, "--training-pod.tolerations", '{"operator": "Exist"}'], "training_pod.tolerations.0.operator"),
        ([*FLAGS, "--settings-file", "/nowhere/settings.yaml"], "/nowhere/settings.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_where_it_is_written(flags: list[str], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        told(*flags)
    assert named in str(caught.value)


def test_a_file_that_is_no_map_or_has_unknown_keys_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    for text, named in (("- a", "map of settings"), (FILE + "worker: 3\n", "worker"), ("{", "cannot be read")):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=named):
            told("--settings-file", str(file))


def test_a_list_in_a_variable_that_is_no_json_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BES_OPERATOR_WATCH_NAMESPACES", "a,b")
    with pytest.raises(ConfigurationError, match="JSON"):
        told(*FLAGS)


def test_a_leader_stops_before_another_may_begin() -> None:
    with pytest.raises(ValidationError):
        Leadership(duration_seconds=10, renew_deadline_seconds=10)
    assert Leadership().identity != Leadership().identity


def test_every_setting_says_what_it_means() -> None:
    for form in (OperatorSettings, Images, Leadership):
        assert [name for name, field in form.model_fields.items() if not field.description] == []
