"""Makes the demo's clip anew from the MAF-2019 samples: ``python -m bes_lab.clips.rebuild FOLDER``.

Test functions of file A are its rows except those with at least 100 calls whose 1,440-minute vector also is a row of
file B (the validation file); 1,149 of 1,350 remain. Their calls are summed per minute, minutes 31 to 60.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bes_lab.clips import DEMO_CLIP
from bes_lab.errors import TraceError

MINUTES = slice(30, 60)
SHARED_CALLS = 100
SEED = 2019
SOURCE = (
    "Azure Functions Trace 2019 (Shahrad et al., Serverless in the Wild, ATC'20), sample A of vhive-serverless/invitro "
    "(data/traces/1350_inv.csv at b12de00), minutes 31 to 60, summed over the {kept} functions not shared with sample B"
)
LICENCE = "CC-BY 4.0 (Azure Functions Trace 2019, Microsoft); the invitro repository is MIT"

Row = tuple[int, ...]


def rows_of(path: Path) -> list[Row]:
    """Calls per minute of each function; the columns that say 'minute' count, in the order of their numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        columns = sorted(
            (int("".join(filter(str.isdigit, name))), index) for index, name in enumerate(header) if "minute" in name
        )
        if not columns:
            raise TraceError(str(path), "has no column named minute_N or N_minute")
        return [tuple(int(line[index]) for _, index in columns) for line in lines]


def test_split(rows: Sequence[Row], validation: Sequence[Row]) -> list[Row]:
    """``rows`` without those of at least 100 calls that also occur in ``validation``."""
    seen = set(validation)
    return [row for row in rows if sum(row) < SHARED_CALLS or row not in seen]


def clip_of(rows: Sequence[Row], validation: Sequence[Row]) -> dict[str, object]:
    """The document of the demo's clip."""
    kept = test_split(rows, validation)
    counts = [sum(column) for column in zip(*(row[MINUTES] for row in kept), strict=True)]
    source = SOURCE.format(kept=len(kept))
    return {"name": DEMO_CLIP, "source": source, "licence": LICENCE, "counts": counts, "seed": SEED}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the clip beside this module."""
    parser = argparse.ArgumentParser(prog="bes_lab.clips.rebuild", description="Rebuild the demo's clip.")
    parser.add_argument("folder", type=Path, help="folder with A_1350fn_*.csv and B_1350fn_*.csv of MAF-2019")
    folder = parser.parse_args(arguments).folder
    found = {letter: next(iter(sorted(folder.glob(f"{letter}_1350fn_*.csv"))), None) for letter in "AB"}
    missing = [letter for letter, path in found.items() if path is None]
    if missing:
        parser.error(f"{folder}: no file {missing[0]}_1350fn_*.csv there")
    document = clip_of(*(rows_of(path) for path in found.values() if path is not None))
    path = Path(__file__).parent / f"{DEMO_CLIP}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {document['source']}", file=sys.stderr)  # noqa: T201 - this module is a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
