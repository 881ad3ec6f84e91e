"""Guards of the house: what no linter knows about this repository's layout, entry points, records and README."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bes_lab.results import KEYS, meets

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("crds", "router", "policy_training", "operator", "e2e")
MEGABYTE = 1_000_000
LARGE_BY_DESIGN: frozenset[str] = frozenset()


def tracked() -> list[Path]:
    """Files that git tracks or would add; an unpacked archive without git is no place for these tests."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


FILES = tracked()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def relative(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def test_the_operator_folder_never_becomes_a_package_that_hides_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_test_folder_has_an_init_file() -> None:
    assert relative([path for path in FILES if path.name == "__init__.py" and "tests" in path.parts]) == []


def test_test_files_have_names_of_their_own() -> None:
    names = Counter(path.name for path in FILES if "tests" in path.parts and path.suffix == ".py")
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []


def test_every_room_with_sources_has_its_tests_collected() -> None:
    collected = set(PYPROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
    with_tests = {f"{room}/tests" for room in ROOMS if (ROOT / room / "tests").is_dir()}
    assert with_tests <= collected


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile("|".join(rf"(?<![\w.\-])/{place}/" for place in ("work", "root", "farm")).encode())
    assert relative([path for path in FILES if places.search(path.read_bytes())]) == []


def test_no_tracked_file_is_larger_than_a_megabyte_unless_listed() -> None:
    large = relative([path for path in FILES if path.stat().st_size > MEGABYTE])
    assert set(large) <= LARGE_BY_DESIGN


def test_no_module_has_a_name_that_says_nothing() -> None:
    nothing = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert relative([path for path in FILES if path.suffix == ".py" and path.stem in nothing]) == []


def commands() -> list[importlib.metadata.EntryPoint]:
    declared = PYPROJECT["project"]["entry-points"]["best_effort_serving.commands"]
    return [importlib.metadata.EntryPoint(name, value, "commands") for name, value in declared.items()]


@pytest.mark.parametrize("entry", commands(), ids=lambda entry: entry.name)
def test_every_command_that_pyproject_declares_can_be_loaded(entry: importlib.metadata.EntryPoint) -> None:
    assert entry.load().name == entry.name


@pytest.mark.parametrize("entry", commands(), ids=lambda entry: entry.name)
def test_every_command_answers_help(entry: importlib.metadata.EntryPoint) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", "import sys; from bes_api.command import main; sys.exit(main())", entry.name, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert f"bes {entry.name}" in asked.stdout


def records() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        content = json.loads(path.read_text())
        assert isinstance(content, list), f"{path.name} is not a list of records"
        found += [(path.name, record) for record in content]
    return found


def test_every_recorded_claim_has_exactly_the_agreed_members_and_an_id_of_its_own() -> None:
    assert [(name, list(record)) for name, record in records() if list(record) != list(KEYS)] == []
    ids = Counter(str(record["id"]) for _, record in records())
    assert [name for name, count in ids.items() if count > 1] == []


def test_every_verdict_is_what_bar_and_figure_say() -> None:
    wrong = [
        (name, record["id"]) for name, record in records() if record["met"] != meets(record["bar"], record["measured"])
    ]
    assert wrong == []


def quoted_commands(tool: str) -> set[str]:
    """Second words of ``make x`` and ``bes x`` in the code (fenced or inline) of README and docs."""
    quoted = set()
    for path in FILES:
        if path.suffix != ".md":
            continue
        for block in re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), flags=re.DOTALL):
            quoted |= set(re.findall(rf"(?:^|[`\s;&/]){tool} ([a-z][a-z-]*)", block))
    return quoted


def test_every_make_target_that_a_page_quotes_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert quoted_commands("make") <= targets


def test_every_bes_command_that_a_page_quotes_exists() -> None:
    assert quoted_commands("bes") <= {entry.name for entry in commands()}


def test_every_link_between_pages_leads_to_a_file() -> None:
    broken = []
    for page in (path for path in FILES if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text()):
            link = target[0] or target[1]
            if "://" not in link and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_the_locks_pin_every_package_by_hash() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        pins = re.findall(r"^[A-Za-z0-9_.\-]+==[^\\\n]+(\\\n\s+--hash=sha256:[0-9a-f]{64})?", lock.read_text(), re.M)
        assert pins, f"{lock.name} pins nothing"
        assert all(pins), f"{lock.name} has a pin without a hash"
