"""Makes the packaged clips anew: ``python -m bes_lab.clips.rebuild [FOLDER]``.

The demo's clip needs FOLDER, the MAF-2019 samples. Test functions of file A are its rows except those with at least 100
calls whose 1,440-minute vector also is a row of file B (the validation file); 1,149 of 1,350 remain. Their calls are
summed per minute, minutes 31 to 60.
ServeGen's and Azure's clips come from the test parts of the traffic in ``bes_training.data``. Of a ServeGen pool it is
the stretch of at most ten hours whose peak is highest above its mean.
"""

import argparse
import csv
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bes_lab.clips import DEMO_CLIP
from bes_lab.errors import TraceError
from bes_training.workloads.traces import SERVEGEN_POOLS, Part, azure_arrivals, series_of

MINUTES = slice(30, 60)
SHARED_CALLS = 100
SEED = 2019
SOURCE = (
    "Azure Functions Trace 2019 (Shahrad et al., Serverless in the Wild, ATC'20), sample A of vhive-serverless/invitro "
    "(data/traces/1350_inv.csv at b12de00), minutes 31 to 60, summed over the {kept} functions not shared with sample B"
)
LICENCE = "CC-BY 4.0 (Azure Functions Trace 2019, Microsoft); the invitro repository is MIT"

SERVEGEN_WINDOW_SECONDS = 600
SERVEGEN_WINDOWS = 60
SERVEGEN_SOURCE = (
    "ServeGen (Alibaba Cloud), pool {pool} (alibaba/ServeGen at f891d11), windows {first} to {last} of the last 3/14 "
    "of its time, which no policy trains on: all clients' summed rate per 600-s window, and their mean CV of gaps"
)
SERVEGEN_LICENCE = "Apache-2.0 (ServeGen)"
AZURE_CLIP = "azure-conversation"
AZURE_SOURCE = (
    "Azure LLM inference trace 2023, conversation service (Patel et al., Splitwise, ISCA'24; Azure/AzurePublicDataset "
    "at b469a11), the last 20 % of its hour, which no policy trains on: gaps between requests"
)
AZURE_LICENCE = "CC-BY 4.0 (Azure Public Dataset, Microsoft)"
LATER_SEED = 2023
"""Of arrivals and tasks of everything but the demo's clip."""

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


def servegen_clip(pool: str) -> dict[str, object]:
    """The document of one ServeGen pool's clip; it plays at its recorded rate, however short its windows become."""
    series = series_of(Part.TEST, "ServeGen", pool)
    length = min(SERVEGEN_WINDOWS, len(series.rate))
    starts = series.starts(length)
    peaks = [series.rate[start : start + length].max() / series.rate[start : start + length].mean() for start in starts]
    first = int(starts[int(np.argmax(peaks))])
    rate, cv = series.rate[first : first + length], series.cv[first : first + length]
    return {
        "name": f"servegen-{pool}",
        "source": SERVEGEN_SOURCE.format(pool=pool, first=first, last=first + length - 1),
        "licence": SERVEGEN_LICENCE,
        "counts": [round(each * SERVEGEN_WINDOW_SECONDS) for each in rate.tolist()],
        "seed": LATER_SEED,
        "window_seconds": SERVEGEN_WINDOW_SECONDS,
        "gap_cv": [round(each, 4) for each in cv.tolist()],
        "rate": round(float(rate.mean()), 3),
    }


def azure_clip() -> dict[str, object]:
    """The document of the Azure conversation trace's test part."""
    milliseconds = np.rint(azure_arrivals(Part.TEST) * 1000).astype(np.int64)
    gaps = np.diff(milliseconds, prepend=0).tolist()
    return {
        "name": AZURE_CLIP,
        "source": AZURE_SOURCE,
        "licence": AZURE_LICENCE,
        "gaps_milliseconds": gaps,
        "seed": LATER_SEED,
    }


def demo_clip(folder: Path) -> dict[str, object]:
    """The document of the demo's clip from the MAF-2019 files in ``folder``. Raises TraceError."""
    found = {letter: next(iter(sorted(folder.glob(f"{letter}_1350fn_*.csv"))), None) for letter in "AB"}
    if missing := [letter for letter, path in found.items() if path is None]:
        raise TraceError(str(folder), f"no file {missing[0]}_1350fn_*.csv there")
    return clip_of(*(rows_of(path) for path in found.values() if path is not None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the clips beside this module."""
    parser = argparse.ArgumentParser(prog="bes_lab.clips.rebuild", description="Rebuild the packaged clips.")
    parser.add_argument(
        "folder", type=Path, nargs="?", help="with A_1350fn_*.csv and B_1350fn_*.csv of MAF-2019, for the demo's clip"
    )
    folder = parser.parse_args(arguments).folder
    documents = [azure_clip(), *(servegen_clip(pool) for pool in SERVEGEN_POOLS)]
    if folder is not None:
        try:
            documents.append(demo_clip(folder))
        except TraceError as error:
            parser.error(str(error))
    for document in documents:
        path = Path(__file__).parent / f"{document['name']}.json"
        path.write_text(written(document), encoding="utf-8")
        print(f"{path}: {document['source']}", file=sys.stderr)  # noqa: T201 - this module is a command
    return 0


def written(document: dict[str, object]) -> str:
    """The document as its file holds it: one member a line, long lists wrapped."""
    members = []
    for key, value in document.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n  " + "\n  ".join(textwrap.wrap(text[1:-1], 110)) + "\n ]"
        members.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
