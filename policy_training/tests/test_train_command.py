"""`bes train` as a person meets it: one clear line for what can be mended, and a folder that can be gone on with."""

import json
from pathlib import Path

import pytest

from bes_api.command import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "opt-paper.yaml"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--decisions", "10"], "--decisions 10: give at least 1000"),
        (["--threads", "0"], "--threads 0: give at least 1"),
        (["--seeds", "0"], "--seeds 0: give at least 1"),
        (["--seeds", str(10**20)], f"--seeds {10**20}: give at most 1000"),
        (["--decisions", str(10**400)], f"--decisions: give at most {10**12}"),
    ],
)
def test_a_number_out_of_range_is_one_line_with_its_mend(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(EXAMPLE), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err.strip() == says
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("here already")
    assert main(["train", str(EXAMPLE), "--out", str(tmp_path / "out"), "--decisions", "1000"]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "here already"


def test_the_journal_of_another_training_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"identity": "another", "stages": {}, "seconds": {}}))
    few = ("--decisions", "1000", "--learner", "Evolution")  # the learner that every environment can run
    assert main(["train", str(EXAMPLE), "--out", str(tmp_path), *few]) == 2
    assert "belongs to another scenario or other settings" in capsys.readouterr().err


@pytest.mark.parametrize("learner", ["Auto", "DQN"])
def test_a_missing_torch_is_said_before_anything_is_trained(
    learner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bes_training.learning.command.find_spec", lambda _name: None)
    out = tmp_path / "out"
    assert main(["train", str(EXAMPLE), "--out", str(out), "--decisions", "1000", "--learner", learner]) == 3
    assert capsys.readouterr().err.strip() == (
        f"the learner {learner} needs the package 'torch': install best-effort-serving[training], "
        "or take --learner Evolution"
    )
    assert not (out / "training.json").exists()
