"""Pages say what is: command lines parse, quoted messages are in the code, exit codes are those of the code."""

import argparse
import ast
import importlib.metadata
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bes_api.command import INTERRUPTED, TERMINATED, Command
from bes_api.errors import BestEffortError, MissingExtraError
from bes_lab.errors import ChildError, StartError
from bes_lab.replay.command import INVALID

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = ("crds/src", "router/src", "policy_training/src", "e2e/src")
IN_CLUSTER = {"kubectl", "helm"}
"""Programs that take names of objects beside names of files."""
GIVEN = ("build/", "http://", "127.0.0.1")
"""Beginnings of arguments that stand for something that a reader has made before."""


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every line in a shell block of a page, words of it, continuation lines joined."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield page.name, words


def of_bes() -> list[tuple[str, list[str]]]:
    """Arguments of `bes` by page."""
    found = []
    for page, words in command_lines():
        program, *arguments = words
        if program.rpartition("/")[2] == "bes":
            found.append((page, arguments))
    return found


def test_there_are_lines_to_look_at() -> None:
    assert len(of_bes()) >= 8


@pytest.mark.parametrize(("page", "arguments"), of_bes(), ids=[" ".join(arguments) for _, arguments in of_bes()])
def test_every_bes_line_of_a_page_is_one_that_bes_takes(page: str, arguments: list[str]) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    value = declared["best_effort_serving.commands"][arguments[0]]
    command = importlib.metadata.EntryPoint(arguments[0], value, "commands").load()
    assert isinstance(command, Command)
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.configure(parser)
    parser.parse_args(arguments[1:])  # ends with SystemExit where the line is wrong
    named = [word for word in arguments if "/" in word and not word.startswith(GIVEN)]
    assert [word for word in named if not (ROOT / word).exists()] == []


def test_every_other_program_of_a_page_is_there_and_so_are_its_files() -> None:
    for page, (program, *arguments) in command_lines():
        if program.rpartition("/")[2] in {"bes", "git", "make", "curl"}:
            continue
        assert program in {"python", ".venv-training/bin/pip", *IN_CLUSTER}, f"{page}: {program}"
        named = [word for word in arguments if "/" in word and "=" not in word and not word.startswith(GIVEN)]
        if program in IN_CLUSTER:
            named = [word for word in named if (ROOT / word.partition("/")[0]).exists()]
        elif arguments[0] != "-m":
            assert named
        assert [word for word in named if not (ROOT / word).exists()] == [], page


def said() -> str:
    """Every text in the sources, a line each; what is filled in stands as an ellipsis."""
    lines = []
    for source in SOURCES:
        for path in (ROOT / source).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                    lines.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    lines.append(re.sub(r"\{\w*\}|%[sdg]", "…", node.value))
    return "\n".join(lines)


def quoted() -> list[str]:
    """Messages in the bold beginnings of the page's paragraphs; FILE:LINE is a form and no message."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    bold = re.findall(r"^(?:\d{3} |\*\*|\*\*\d{3} )`{1,2} ?(.+?) ?`{1,2}(?=\*\*| )", page, flags=re.MULTILINE)
    return [message for message in bold if not message.startswith("FILE:LINE")]


def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    messages, texts = quoted(), said()
    assert len(messages) >= 20
    assert [message for message in messages if message not in texts] == []


def test_the_exit_codes_of_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    stated = {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    errors = (BestEffortError, MissingExtraError, StartError, ChildError)
    assert stated == {0, INVALID, INTERRUPTED, TERMINATED, *(error.exit_code for error in errors)}


def test_every_page_in_docs_is_on_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"({page.name})" not in index] == [
        "README.md"
    ]


def test_contributing_names_the_command_of_every_recorded_topic() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    topics = {path.stem for path in (ROOT / "docs" / "results").glob("*.json")}
    assert topics <= set(re.findall(r"^\| ([a-z-]+) \| `", page, flags=re.MULTILINE))
