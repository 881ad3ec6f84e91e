"""Derives the committed traffic data from the public files: ``python -m bes_training.data.rebuild FOLDER [--out DIR]``.

FOLDER holds ``maf2019_invitro``, ``azure_llm_2023`` and ``servegen`` as SOURCES.md describes them.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bes_api.errors import BestEffortError

MINUTES = 1440
SHARED_CALLS = 100
"""Rows with fewer calls are too sparse for an equal vector to mean the same function."""
SERVEGEN_POOLS = {
    "m-small": "language/m-small",
    "m-mid": "language/m-mid",
    "deepseek-r1": "reason/deepseek-r1",
}
Counts = NDArray[np.int64]


class RawDataError(BestEffortError):
    """The folder given is not the raw data that SOURCES.md describes."""


class MinuteSums(NamedTuple):
    """Calls per minute of one MAF file, and how many of its functions they sum."""

    calls: Counts  # [MINUTES]
    functions: int
    of: int


class ClientWindow(NamedTuple):
    """One client in one ServeGen window; ``cv`` is of the gaps between its requests, 0 where none is stated."""

    start_seconds: int
    rate: float
    cv: float


class PoolWindow(NamedTuple):
    """All clients of a ServeGen pool in one window."""

    start_seconds: int
    rate: float
    cv: float


def read_functions(path: Path) -> Counts:
    """A MAF file as functions x minutes. Its columns are named ``minute_1`` or ``1_minute``, by file."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError) as error:
        raise RawDataError(f"{path}: expected a CSV with a header; get the file that SOURCES.md names") from error
    minutes = {
        int(match[1] or match[2]): column
        for column, name in enumerate(header)
        if (match := re.fullmatch(r"minute_(\d+)|(\d+)_minute", name))
    }
    if not minutes or sorted(minutes) != list(range(1, len(minutes) + 1)):
        raise RawDataError(f"{path}: expected columns minute_1 or 1_minute and so on without a gap")
    columns = [minutes[minute] for minute in sorted(minutes)]
    return np.array([[int(float(row[column])) for column in columns] for row in rows], np.int64)


def sum_functions(functions: Counts, excluded: Counts | None = None) -> MinuteSums:
    """Sums over functions, less rows of at least 100 calls that also occur, minute by minute, in ``excluded``."""
    total = functions.sum(axis=1)
    known = set() if excluded is None else {row.tobytes() for row in excluded[excluded.sum(axis=1) >= SHARED_CALLS]}
    kept = (total < SHARED_CALLS) | np.array([row.tobytes() not in known for row in functions])
    return MinuteSums(functions[kept].sum(axis=0), int(kept.sum()), len(functions))


def maf_sums(folder: Path) -> dict[str, MinuteSums]:
    """Every file's sums; the test files A and E without what they share with the validation file B."""
    files = {path.name[0]: path for path in sorted(folder.glob("?_*fn_*.csv"))}
    if missing := sorted(set("ABCDEFHI") - set(files)):
        raise RawDataError(f"{folder}: no MAF file {', '.join(missing)}; copy all eight that SOURCES.md names")
    validation = read_functions(files["B"])
    return {
        name: sum_functions(read_functions(path), validation if name in "AE" else None) for name, path in files.items()
    }


def azure_gaps_ms(path: Path) -> list[int]:
    """Milliseconds between successive requests of the conversation trace, the first since the first request (0)."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            # The trace has 100-ns stamps; datetime reads microseconds.
            instants = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError) as error:
        raise RawDataError(f"{path}: expected a CSV with a column TIMESTAMP in ISO form ({error!r})") from error
    instants.sort()
    since = [round((instant - instants[0]).total_seconds() * 1000) for instant in instants]
    return np.diff(since, prepend=0).tolist()


def pool_windows(clients: list[list[ClientWindow]]) -> list[PoolWindow]:
    """Total rate per window, and the mean of the clients' CVs weighted by their rates (1 where none states any).

    The weighted mean keeps a window's traffic as bursty as a request's own client typically is. The exact
    superposition of that many clients would be smoother at short lags; played at a small service's rate it would be
    plain Poisson, although single services see single clients' bursts.
    """
    windows: dict[int, list[ClientWindow]] = {}
    for client in clients:
        for window in client:
            windows.setdefault(window.start_seconds, []).append(window)
    pooled = []
    for start, parts in sorted(windows.items()):
        rate = sum(part.rate for part in parts)
        stated = [part for part in parts if part.cv > 0 and part.rate > 0]
        weight = sum(part.rate for part in stated)
        cv = sum(part.rate * part.cv for part in stated) / weight if weight > 0 else 1.0
        pooled.append(PoolWindow(start, rate, cv))
    return pooled


def read_client(path: Path) -> list[ClientWindow]:
    """A ServeGen client file: window start, rate, CV of gaps (may be empty), and the fitted law, which is not used."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [ClientWindow(int(float(r[0])), float(r[1]), float(r[2] or 0)) for r in csv.reader(stream)]
    except (OSError, ValueError, IndexError) as error:
        raise RawDataError(f"{path}: expected rows of window start, rate, CV ({error!r})") from error


def rebuild(folder: Path, out: Path) -> None:
    """Write every derived file into ``out``."""
    sums = maf_sums(folder / "maf2019_invitro")
    gaps = azure_gaps_ms(folder / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv")
    pools = {}
    for pool, place in SERVEGEN_POOLS.items():
        paths = sorted((folder / "servegen" / place).glob("chunk-*-trace.csv"))
        if not paths:
            raise RawDataError(f"{folder / 'servegen' / place}: no client files; copy those that SOURCES.md names")
        pools[pool] = pool_windows([read_client(path) for path in paths])
    _write_columns(out / "maf2019.csv", {name: part.calls.tolist() for name, part in sums.items()})
    _write_columns(out / "azure2023.csv", {"gap_ms": gaps})
    lines = ["pool,start_seconds,rate,cv"]
    lines += [f"{name},{w.start_seconds},{w.rate:.6g},{w.cv:.4g}" for name, pool in pools.items() for w in pool]
    (out / "servegen.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = {
        "maf2019_functions": {name: {"kept": part.functions, "of": part.of} for name, part in sums.items()},
        "azure2023_requests": len(gaps),
        "servegen_windows": {name: len(pool) for name, pool in pools.items()},
    }
    (out / "derivation.json").write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")


def _write_columns(path: Path, columns: Mapping[str, list[int]]) -> None:
    rows = zip(*columns.values(), strict=True)
    text = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
    path.write_text(text + "\n", encoding="utf-8")


def main() -> int:
    """The command line; 2 when the folder does not hold the raw data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("folder", type=Path, help="folder of the raw data")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the derived files go")
    arguments = parser.parse_args()
    try:
        rebuild(arguments.folder, arguments.out)
    except RawDataError as error:
        sys.stderr.write(f"rebuild: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
