"""Writes recorded figures and examples into the documentation: no number nobody measured, no code nobody runs.

A page marks a place with ``<!-- results TOPIC -->`` (or ``<!-- results TOPIC: ID ID ... -->``) and closes it with
``<!-- end of results -->``; what stands between is generated from docs/results/TOPIC.json and belongs to this module.
So does what stands between ``<!-- file PATH -->`` and ``<!-- end of file -->``: that file as a block of code.
``python -m bes_lab.pages`` rewrites the pages; a test holds them to the records.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bes_lab.results import read

PLACE = re.compile(
    r"(?P<begin><!-- results (?P<topic>[a-z0-9-]+)(?P<ids>:[^>]*?)? -->\n).*?(?P<end><!-- end of results -->)",
    flags=re.DOTALL,
)
FILE = re.compile(r"(?P<begin><!-- file (?P<path>\S+) -->\n).*?(?P<end><!-- end of file -->)", flags=re.DOTALL)
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".patch": "diff"}
PAGES = ("README.md", "docs")
MARKS = {True: "met", False: "**short**", None: "stated"}


class UnknownRecordError(Exception):
    """A page asks for a record that no command has written, or for a file that is not there."""


def pages(root: Path) -> list[Path]:
    """The pages that may quote figures."""
    found: list[Path] = []
    for name in PAGES:
        path = root / name
        found += sorted(path.rglob("*.md")) if path.is_dir() else [path]
    return found


def rendered(text: str, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """``text`` with every marked place filled from ``records`` (topic -> records). Raises UnknownRecordError."""

    def fill(place: re.Match[str]) -> str:
        known = {str(record["id"]): record for record in records.get(place["topic"], ())}
        wanted = (place["ids"] or "").lstrip(":").split() or list(known)
        if missing := [name for name in wanted if name not in known]:
            raise UnknownRecordError(f"docs/results/{place['topic']}.json has no record {', '.join(missing)}")
        return place["begin"] + table([known[name] for name in wanted]) + place["end"]

    return PLACE.sub(fill, text)


def with_files(text: str, root: Path) -> str:
    """``text`` with every place for a file filled. Raises UnknownRecordError where the file is not there."""

    def fill(place: re.Match[str]) -> str:
        path = root / place["path"]
        if not path.is_file():
            raise UnknownRecordError(f"there is no file {place['path']}")
        content = path.read_text(encoding="utf-8")
        return f"{place['begin']}```{LANGUAGES.get(path.suffix, '')}\n{content}```\n{place['end']}"

    return FILE.sub(fill, text)


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of records, and below it where and when they were measured."""
    if not records:
        return "Nothing has been recorded yet.\n"
    lines = ["| What | Measured | Bar | |", "|---|---:|---:|---|"]
    for record in records:
        measured = "failed" if record["measured"] is None else f"{figure(record['measured'])} {record['unit']}".strip()
        bar = str(record["bar"] or "").replace("<=", "≤").replace(">=", "≥")
        lines.append(f"| {record['claim']} | {measured} | {bar} | {MARKS[record['met']]} |")
    places = sorted({f"{record['machine']}, {record['date']}, `{record['command']}`" for record in records})
    return "\n".join(lines) + "\n\n" + "\n".join(f"Measured on {place}." for place in places) + "\n"


def figure(value: float) -> str:
    """Three digits that count, whole numbers with separators from a thousand on."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the pages below a root; 1 with ``--check`` if any would change, 2 if a record is missing."""
    parser = argparse.ArgumentParser(prog="bes_lab.pages", description="Write recorded figures into the pages.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something would change")
    parser.add_argument("--root", type=Path, default=Path())
    options = parser.parse_args(arguments)
    folder = options.root / "docs" / "results"
    records = {path.stem: read(path) for path in sorted(folder.glob("*.json"))}
    stale = 0
    for page in pages(options.root):
        text = page.read_text(encoding="utf-8")
        try:
            fresh = with_files(rendered(text, records), options.root)
        except UnknownRecordError as error:
            sys.stderr.write(f"{page}: {error}\n")
            return 2
        if fresh != text:
            stale += 1
            sys.stderr.write(f"{page}: {'out of date, run `make results`' if options.check else 'rewritten'}\n")
            if not options.check:
                page.write_text(fresh, encoding="utf-8")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
