"""The derivation of the committed data, on a made-up input whose result is computed by hand."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bes_training.data.rebuild import (
    ClientWindow,
    RawDataError,
    azure_gaps_ms,
    maf_sums,
    pool_windows,
    read_functions,
    rebuild,
    sum_functions,
)

BUSY = "60,40,0"
RARE = "1,0,1"


def raw_folder(root: Path) -> Path:
    """Three minutes a day; A shares a busy and a rare row with B."""
    maf = root / "maf2019_invitro"
    maf.mkdir(parents=True)
    for name in "BCDFHI":
        rows = [BUSY, RARE] if name == "B" else ["1,2,3"]
        lines = ["f,1_minute,2_minute,3_minute", *(f"x,{row}" for row in rows)]
        (maf / f"{name}_2fn_abc.csv").write_text("\n".join(lines) + "\n")
    (maf / "A_3fn_abc.csv").write_text(f"f,g,minute_1,minute_2,minute_3\nx,y,{BUSY}\nx,y,{RARE}\nx,y,7,8,9\n")
    # The columns stand out of order: they are read by their numbers.
    (maf / "E_1fn_abc.csv").write_text("f,3_minute,1_minute,2_minute\nx,30,10,20\n")
    azure = root / "azure_llm_2023"
    azure.mkdir()
    (azure / "AzureLLMInferenceTrace_conv.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:51.2224670,879,55\n"
    )
    for pool in ("language/m-small", "language/m-mid", "reason/deepseek-r1"):
        folder = root / "servegen" / pool
        folder.mkdir(parents=True)
        (folder / "chunk-0-trace.csv").write_text("0,1.0,2.0,Gamma,0.2,1\n600,0,0,,0,0\n")
        (folder / "chunk-1-trace.csv").write_text("0,3.0,4.0,Weibull,0.2,1\n600,0.5,,,0,0\n")
    return root


def test_rows_that_the_validation_file_repeats_leave_the_test_files(tmp_path: Path) -> None:
    sums = maf_sums(raw_folder(tmp_path) / "maf2019_invitro")
    assert sums["A"].calls.tolist() == [8, 8, 10]  # the rare row stays: 2 calls prove nothing
    assert (sums["A"].functions, sums["A"].of) == (2, 3)
    assert sums["B"].calls.tolist() == [61, 40, 1]


def test_columns_are_read_by_their_minute(tmp_path: Path) -> None:
    assert read_functions(raw_folder(tmp_path) / "maf2019_invitro" / "E_1fn_abc.csv").tolist() == [[10, 20, 30]]


def test_one_hundred_calls_are_enough_to_be_the_same_function() -> None:
    rows = np.array([[100, 0], [99, 0]])
    assert sum_functions(rows, rows).calls.tolist() == [99, 0]


def test_azure_gaps_are_milliseconds(tmp_path: Path) -> None:
    path = raw_folder(tmp_path) / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv"
    assert azure_gaps_ms(path) == [0, 4315, 227]


def test_pool_rate_is_the_sum_and_its_variation_the_rate_weighted_mean() -> None:
    clients = [[ClientWindow(0, 1.0, 2.0), ClientWindow(600, 0.0, 0.0)], [ClientWindow(0, 3.0, 4.0)]]
    pooled = pool_windows(clients)
    assert pooled == [(0, 4.0, 3.5), (600, 0.0, 1.0)]


def test_rebuild_writes_every_derived_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    rebuild(raw_folder(tmp_path / "raw"), out)
    assert (out / "maf2019.csv").read_text().splitlines()[:2] == ["A,B,C,D,E,F,H,I", "8,61,1,1,10,1,1,1"]
    assert (out / "servegen.csv").read_text().splitlines()[1:3] == ["m-small,0,4,3.5", "m-small,600,0.5,1"]
    assert json.loads((out / "derivation.json").read_text())["servegen_windows"]["m-mid"] == 2


def test_a_folder_without_the_data_gets_one_clear_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bes_training.data.rebuild", str(tmp_path), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no MAF file A, B, C" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_without_minutes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RawDataError, match="minute_1"):
        read_functions(path)


def test_the_committed_derivation_kept_1149_functions_of_file_a() -> None:
    counts = json.loads((files("bes_training.data") / "derivation.json").read_text())
    assert counts["maf2019_functions"]["A"] == {"kept": 1149, "of": 1350}
    assert counts["azure2023_requests"] == 19_366
    table = (files("bes_training.data") / "maf2019.csv").read_text().splitlines()
    assert len(table) == 1 + 1440
    assert sum(int(row.split(",")[0]) for row in table[1:]) == 814_430
