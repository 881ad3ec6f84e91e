"""What the chart repeats of others is fresh, and its writers write what is meant. Needs no helm."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import yaml

from bes_lab import chart
from bes_operator.settings import OperatorSettings

ROOT = Path(__file__).parents[2]


def test_nothing_that_is_generated_is_stale() -> None:
    assert chart.stale(ROOT) == [], "run `python -m bes_lab.chart`"


def test_a_change_of_any_source_makes_its_copies_stale(tmp_path: Path) -> None:
    for path in (chart.CHART, chart.PAGE, chart.CRD):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, tmp_path / path)
    assert chart.main(["--root", str(tmp_path)]) == 0
    schema = json.loads((tmp_path / chart.SCHEMA).read_text())
    schema["properties"]["operator"]["properties"]["replicas"]["default"] = 5
    (tmp_path / chart.SCHEMA).write_text(json.dumps(schema, indent=2) + "\n")
    (tmp_path / chart.CRD).write_text("kind: Other\n")
    rights = (tmp_path / chart.RIGHTS).read_text()
    (tmp_path / chart.RIGHTS).write_text(rights.replace("verbs: [get, list, watch]", "verbs: [get]", 1))
    assert set(chart.stale(tmp_path)) == {chart.VALUES, chart.PAGE, chart.CRD_COPY}
    assert chart.main(["--root", str(tmp_path)]) == 0
    assert chart.stale(tmp_path) == []


def test_every_setting_of_the_operator_is_a_value_or_said_by_the_chart() -> None:
    settings, _ = chart.settings_schema()
    assert settings["properties"].keys() | chart.SAID_BY_CHART == OperatorSettings.model_fields.keys()
    assert settings["properties"].keys() & chart.SAID_BY_CHART == set()


def test_what_differs_from_start_to_start_is_not_among_what_is_generated() -> None:
    said = json.dumps(chart.settings_schema())
    assert said == json.dumps(chart.settings_schema())
    assert socket.gethostname() not in said.replace("-", " ").replace('"', " ").split()
    assert "identity" not in said


def test_a_setting_that_the_operator_no_longer_has_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "SAID_BY_CHART", chart.SAID_BY_CHART | {"gone"})
    with pytest.raises(LookupError, match="no settings gone"):
        chart.settings_schema()


def test_values_are_the_defaults_of_their_schema() -> None:
    schema = json.loads((ROOT / chart.SCHEMA).read_text())
    values = yaml.safe_load((ROOT / chart.VALUES).read_text())
    for path, part in chart._leaves(schema, ""):
        found = values
        for name in path.split("."):
            found = found[name]
        assert found == part["default"], path


def test_every_rule_of_the_operator_has_its_reason() -> None:
    template = (ROOT / chart.RIGHTS).read_text()
    rows = chart.rights_table(template).splitlines()[2:]
    begin = template.index("bes.operatorRules")
    assert len(rows) == template[begin : template.index("{{- end }}", begin)].count("- apiGroups")
    assert all(len(row.split("|")[3].strip()) > len("Training") - 1 for row in rows)


def test_the_page_says_what_a_value_may_be() -> None:
    page = (ROOT / chart.PAGE).read_text()
    cells = {cell[1].strip(" `"): cell[2].strip() for row in page.splitlines() if len(cell := row.split("|")) == 6}
    assert cells["settings.log_format"] == "`json`, `plain`"
    assert cells["settings.status_hysteresis"] == "number 0..1"
    assert cells["settings.shadow_seconds"] == "number above 0 or `null`"
    assert cells["settings.max_trainings"] == "whole number from 1"
    assert "`tolerations`" in cells["settings.training_pod"]
    assert cells["prometheus.storage"] == "text or whole number"
