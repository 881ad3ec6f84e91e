"""`python -m bes_lab.fuzz`: coverage-guided fuzzing of the router's head, body and answer paths, and its records.

The targets and their seeds are `router/fuzz`; each runs in a process of its own, on a copy of the seeds.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bes_api.command import exit_code_of
from bes_api.output import prepare_folder
from bes_lab.errors import TargetError
from bes_lab.results import RESULTS, Record, recorder, write

TOPIC = "fuzz"
COMMAND = "make fuzz"
TARGETS = ("head", "body", "answer")
FOLDER = Path("router/fuzz")
GRACE_SECONDS = 60.0
PACKAGES = ("atheris", "httptools", "orjson")
_PROGRESS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Fuzzed:
    """One target's run. Coverage counts edges of the router's code (``features``: with how often they were taken)."""

    target: str
    executions: int
    coverage_of_seeds: int
    coverage: int
    features: int
    crash: str
    """The end of what it said, where it ended badly."""

    @classmethod
    def of(cls, target: str, said: str, code: int) -> "Fuzzed":
        """Read what libFuzzer said."""
        steps = _PROGRESS.findall(said)
        seeds = next((int(each[2]) for each in steps if each[1] == "INITED"), 0)
        last = steps[-1] if steps else ("0", "", "0", "0")
        crash = "" if code == 0 and steps else said[-2000:] or f"exit code {code}"
        return cls(target, int(last[0]), seeds, int(last[2]), int(last[3]), crash)


def fuzz(target: str, seconds: int, seed: int, keep: Path) -> Fuzzed:
    """Fuzz one target; an input that breaks a promise is left in ``keep``."""
    with tempfile.TemporaryDirectory(prefix="bes-fuzz-") as found:
        seeds = FOLDER / "corpus" / target
        settings = (f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={keep}/", "-timeout=10")
        command = (sys.executable, "-P", str(FOLDER / "run.py"), target, found, str(seeds), *settings)
        try:
            ended = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds + GRACE_SECONDS,
                env={**os.environ, "PYTHONPATH": str(FOLDER.absolute())},
            )
        except subprocess.TimeoutExpired as error:
            return Fuzzed(target, 0, 0, 0, 0, f"it did not end: {str(error.output)[-1000:]}")
    return Fuzzed.of(target, ended.stdout, ended.returncode)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where nothing was found, 1 where something was, 2 for what the caller can mend."""
    parser = argparse.ArgumentParser(prog="bes_lab.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together (default %(default)d)")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)d")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="for inputs that break something")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records (default %(default)s)")
    given = parser.parse_args(arguments)
    return exit_code_of("bes_lab.fuzz", lambda: _main(given))


def _main(arguments: argparse.Namespace) -> int:
    if arguments.seconds < len(TARGETS):
        raise TargetError(f"--seconds {arguments.seconds}: expected at least one for each of {len(TARGETS)} targets")
    if not FOLDER.is_dir():
        raise TargetError(f"{FOLDER} is not here: start this in the repository's folder")
    if find_spec("atheris") is None:
        raise TargetError("the package atheris is not installed: `make fuzz` installs it")
    prepare_folder("--keep", arguments.keep)
    prepare_folder("--out", arguments.out)
    found = []
    for target in TARGETS:
        seconds = arguments.seconds // len(TARGETS)
        _say(f"{target}: {seconds} s")
        one = fuzz(target, seconds, arguments.seed, arguments.keep.absolute())
        _say(f"    {one.executions} executions, coverage {one.coverage_of_seeds} -> {one.coverage} edges")
        if one.crash:
            _say(f"    FOUND (the input is in {arguments.keep}):\n{one.crash}")
        found.append(one)
    _say(f"recorded in {write(TOPIC, _records(found, arguments), arguments.out)}")
    return 1 if any(one.crash for one in found) else 0


def _records(found: Sequence[Fuzzed], arguments: argparse.Namespace) -> list[Record]:
    made = recorder(COMMAND, arguments.seed, PACKAGES)
    records = [
        made.record("fuzz-seconds", "fuzzing of head, body and answer path together", arguments.seconds, "s", ">= 600"),
        made.record(
            "fuzz-crashes", "targets in which a promise was broken", sum(bool(f.crash) for f in found), "", "== 0"
        ),
    ]
    for one in found:
        what = f"fuzzing the {one.target} path"
        records += [
            made.record(f"fuzz-{one.target}-executions", f"{what}: executions", one.executions, ""),
            made.record(
                f"fuzz-{one.target}-coverage",
                f"{what}: edges reached beyond the seeds' {one.coverage_of_seeds}",
                one.coverage - one.coverage_of_seeds,
                "edges",
            ),
        ]
    return records


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
