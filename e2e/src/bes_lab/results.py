"""Records of what was measured: docs/results/<topic>.json, written by commands and never by hand.

A record's ``bar`` is a comparison such as ``"<= 3"`` (null where none was set); ``met`` is always computed from it.
``python -m bes_lab.results`` prints every record as one table, what falls short on top.
"""

import argparse
import json
import math
import operator
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bes_api.output import write_whole

RESULTS = Path("docs/results")
KEYS = ("id", "claim", "bar", "measured", "unit", "met", "command", "seed", "versions", "machine", "date")

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


def meets(bar: str | None, measured: float | None) -> bool | None:
    """Whether ``measured`` meets ``bar``; None where no bar was set; a figure that is missing meets none."""
    if bar is None:
        return None
    sign, _, limit = bar.partition(" ")
    if sign not in _COMPARISONS:
        raise ValueError(f"bar {bar!r}: write a comparison, a space and a number, such as '<= 3'")
    if measured is None or math.isnan(measured):
        return False
    return _COMPARISONS[sign](measured, float(limit))


@dataclass(frozen=True)
class Record:
    """One measured claim. ``seed`` and ``bar`` may be None; ``measured`` is None where the measurement failed."""

    id: str
    claim: str
    bar: str | None
    measured: float | None
    unit: str
    command: str
    seed: int | None
    versions: Mapping[str, str]
    machine: str
    date: str

    @property
    def met(self) -> bool | None:
        """See ``meets``."""
        return meets(self.bar, self.measured)

    def as_json(self) -> dict[str, object]:
        """The record with its computed ``met``, keys in the published order."""
        fields = {**asdict(self), "met": self.met}
        return {key: fields[key] for key in KEYS}


@dataclass(frozen=True)
class Recorder:
    """Makes records that share one command, seed, machine and day."""

    command: str
    seed: int | None
    versions: Mapping[str, str]
    machine: str
    date: str

    def record(self, identity: str, claim: str, measured: float | None, unit: str, bar: str | None = None) -> Record:
        """A record of ``measured``; a bar that cannot be read is refused here, not when it is printed."""
        meets(bar, measured)
        return Record(
            identity, claim, bar, measured, unit, self.command, self.seed, self.versions, self.machine, self.date
        )


def recorder(command: str, seed: int | None = None, packages: Sequence[str] = ("numpy",)) -> Recorder:
    """A recorder for this machine, today, with the versions of ``packages`` that are installed."""
    return Recorder(command, seed, versions_of(packages), this_machine(), datetime.now(UTC).date().isoformat())


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Version of Python, of this project and of each of ``packages`` that is installed."""
    versions = {"python": platform.python_version()}
    for package in ("best-effort-serving", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def this_machine() -> str:
    """Usable cores and the processor's name, nothing that identifies the host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{cores} cores, {name}, {platform.system()}"


def write(topic: str, records: Iterable[Record], folder: Path = RESULTS) -> Path:
    """Put ``records`` into ``folder/<topic>.json``; records of the same id are replaced, others stay."""
    path = folder / f"{topic}.json"
    kept = {str(entry["id"]): entry for entry in read(path)}
    for record in records:
        kept[record.id] = record.as_json()
    write_whole(path, json.dumps(list(kept.values()), indent=2, ensure_ascii=False) + "\n")
    return path


def read(path: Path) -> list[dict[str, object]]:
    """The records of one topic as they stand in the file; empty where there is no file."""
    if not path.exists():
        return []
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        if tuple(entry) != KEYS:
            raise ValueError(f"{path}: a record has keys {sorted(entry)}; expected exactly {sorted(KEYS)}")
    return list(entries)


def read_all(folder: Path = RESULTS) -> list[tuple[str, dict[str, object]]]:
    """Every record with its topic: what falls short first, then what is met, then what had no bar."""
    order = {False: 0, True: 1, None: 2}
    found = [(path.stem, entry) for path in sorted(folder.glob("*.json")) for entry in read(path)]
    return sorted(found, key=lambda item: order[item[1]["met"]])  # type: ignore[index]  # JSON; the guard checks types


def print_all(folder: Path = RESULTS) -> int:
    """Print every record as one table; the number of records that fall short."""
    from rich.console import Console  # noqa: PLC0415 - writing a record must not load a terminal library
    from rich.table import Table  # noqa: PLC0415

    marks = {False: "[bold red]short", True: "[green]met", None: "[dim]-"}
    table = Table("", "topic", "claim", "measured", "bar", "unit", "command", "date", highlight=False)
    records = read_all(folder)
    for topic, entry in records:
        measured = entry["measured"]
        figure = "failed" if measured is None else f"{measured:.4g}"
        cells = (topic, entry["claim"], figure, entry["bar"] or "-", entry["unit"], entry["command"], entry["date"])
        table.add_row(marks[entry["met"]], *map(str, cells))  # type: ignore[index]  # JSON, as above
    short = sum(entry["met"] is False for _, entry in records)
    console = Console()
    console.print(table)
    console.print(f"{len(records)} records, {short} fall short")
    return short


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m bes_lab.results [FOLDER]``."""
    parser = argparse.ArgumentParser(prog="bes_lab.results", description="Print every recorded result.")
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    print_all(parser.parse_args(arguments).folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
