"""Fetch Debian's Prometheus into the user's cache, or do nothing at once if one is there or on the PATH.

Run by the Makefile with the system's Python, so it uses the standard library only. Nothing is installed and no root is
needed: apt-get fetches the package, checked against the distribution's signatures, and its binary is unpacked. Where
that cannot be done it says so and succeeds: what needs a Prometheus then says that it has none.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "prometheus"
SECONDS = 300.0


def main() -> int:
    """Find or fetch; the path on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", action="store_true", help="only print where a fetched one belongs")
    arguments = parser.parse_args()
    cached = tools() / NAME
    if arguments.where:
        sys.stdout.write(f"{cached}\n")
        return 0
    found = shutil.which(NAME) or (str(cached) if runs(cached) else None)
    if found is None:
        problem = fetch(cached)
        if problem:
            sys.stderr.write(f"warning: no Prometheus here: {problem}; put one on the PATH to use it\n")
            return 0
        found = str(cached)
    sys.stdout.write(f"{found}\n")
    return 0


def tools() -> Path:
    """The cache of programs that the project fetched, outside the tree."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "best-effort-serving" / "tools"


def runs(binary: Path) -> bool:
    """Whether it is there and works on this machine."""
    try:
        return subprocess.run([binary, "--version"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def fetch(binary: Path) -> str:
    """Put the package's binary at ``binary``, whole or not at all; why not, or nothing."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            return f"there is no {program} to fetch Debian's package with"
    binary.parent.mkdir(parents=True, exist_ok=True)
    with (binary.parent / f"{NAME}.lock").open("w") as lock, tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once wait for each other
        if runs(binary):
            return ""
        sys.stderr.write("== fetching Debian's Prometheus into the cache (about 20 MB)\n")
        try:
            _run(["apt-get", "download", "-q", NAME], folder)
            (package,) = Path(folder).glob(f"{NAME}_*.deb")
            _run(["dpkg-deb", "-x", package.name, "unpacked"], folder)
        except subprocess.TimeoutExpired:
            return f"it could not be fetched within {SECONDS:.0f} s"
        except subprocess.CalledProcessError as error:
            return f"`{' '.join(error.cmd)}` failed: {error.stdout.decode(errors='replace').strip()[-300:]}"
        except ValueError:
            return "apt-get left no package"
        unpacked = Path(folder) / "unpacked/usr/bin" / NAME
        if not runs(unpacked):
            return "the fetched one does not run on this machine"
        unpacked.replace(binary)
    return ""


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=SECONDS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
