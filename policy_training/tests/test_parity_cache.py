"""numba's stale cache: it does not notice an edit in a *called* file. Ours is named by the sources, so it must."""

import ast
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import bes_router
import bes_training
from bes_training.simulation.compiled import CACHE_VARIABLE, PLAIN, Compiler, cache_folder, source_of

pytestmark = pytest.mark.slow  # compiles the simulator where its cache is empty

ASK = """
from bes_router.policy.catalogue import catalogue_of
from bes_training.simulation.compiled import compiled
from bes_training.simulation.simulate import arrays_of
from policy_scenarios import opt_scenario
catalogue = arrays_of(catalogue_of(opt_scenario()))
print(compiled("bes_router.policy.formula").predicted_finish(catalogue, 2, 4.0, 128, 16))
"""
CALLEE = "    return (\n        catalogue.decode_base[model]\n"
EDITED = "    return (\n        1.0 + catalogue.decode_base[model]\n"


def ask(tree: Path) -> float:
    """The caller's result in a fresh process that sees the sources in ``tree`` and caches beside them."""
    path = os.pathsep.join([str(tree), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, CACHE_VARIABLE: str(tree / "cache")}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_an_edited_callee_changes_its_callers_result(tmp_path: Path) -> None:
    for package in (bes_router, bes_training):
        source = Path(package.__path__[0])
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.csv"))
    formula = tmp_path / "bes_router" / "policy" / "formula.py"
    first = ask(tmp_path)
    assert ask(tmp_path) == first
    text = formula.read_text()
    assert text.count(CALLEE) == 1, "decode_seconds, which predicted_finish calls"
    formula.write_text(text.replace(CALLEE, EDITED))
    assert ask(tmp_path) > first + 10.0, "fifteen decode steps of one second more"
    folders = list((tmp_path / "cache" / "best-effort-serving" / "numba").iterdir())
    assert len(folders) == 2, "a folder per state of the sources"


def test_threads_that_ask_at_once_see_a_whole_twin(tmp_path: Path) -> None:
    compiler = Compiler(PLAIN, tmp_path)
    start = Barrier(8)

    def ask_for_it(_: int) -> object:
        start.wait()
        return compiler.load("bes_training.simulation.kernel").run

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask_for_it, range(8)))) == 1


def test_the_cache_folder_changes_with_every_compiled_source_and_lies_where_it_is_told(tmp_path: Path) -> None:
    told = cache_folder(PLAIN, {CACHE_VARIABLE: str(tmp_path)})
    assert told.is_relative_to(tmp_path)
    assert cache_folder(PLAIN, {"XDG_CACHE_HOME": str(tmp_path)}) == told
    fewer = {cache_folder([each for each in PLAIN if each != left_out], {}) for left_out in PLAIN}
    assert len(fewer | {cache_folder(PLAIN, {})}) == len(PLAIN) + 1


def test_whatever_compiled_code_imports_of_ours_is_compiled_too_or_holds_types_alone() -> None:
    """A module outside the list would be called as Python, and its edits would not move the cache."""
    types = {"bes_router.policy.layout", "bes_training.simulation.state"}
    known = {*PLAIN, *types}
    for name in PLAIN:
        for node in ast.walk(ast.parse(source_of(name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bes_"):
                unknown = {f"{node.module}.{each.name}" for each in node.names} - known
                assert node.module in known or not unknown, f"{name} imports {unknown}"
