"""Make one of the project's virtual environments from its lock, or do nothing at once if it is already right.

Run by the Makefile with the system's Python, so it uses the standard library only. An environment carries two stamps:
one for its packages (lock, interpreter, place on disk) and one for the project itself (pyproject.toml). Without the
first it is thrown away and made anew, so a half-made environment never serves; without the second only the project
is installed again, so that an edit of pyproject.toml does not cost a download.
"""

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP_INSTALL = ["-m", "pip", "install", "--disable-pip-version-check", "--timeout", "120", "--retries", "8"]


def main() -> int:
    """Parse the command line, hold the lock's file lock (two makes at once wait for each other), make what is due."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path, help="folder of the environment, e.g. .venv")
    parser.add_argument("lock", type=Path, help="requirements file with hashes")
    parser.add_argument("--on", type=Path, help="an environment whose packages this one sees and does not repeat")
    arguments = parser.parse_args()
    environment = (ROOT / arguments.environment).absolute()
    below = (ROOT / arguments.on).absolute() if arguments.on else None
    try:
        with (ROOT / arguments.lock).open("rb") as lock:
            if not due(environment, lock.read(), below):
                return 0
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            make(environment, ROOT / arguments.lock, lock.read(), below)
    except FileNotFoundError as error:
        return _complain(f"{error.filename} is missing; the locks belong to the checkout")
    except subprocess.CalledProcessError as error:
        return _complain(f"`{' '.join(map(str, error.cmd))}` ended with {error.returncode}; the reason stands above")
    except KeyboardInterrupt:
        return 130
    return 0


def stamps(environment: Path, lock: bytes, below: Path | None) -> tuple[Path, Path]:
    """The two files whose presence says that packages and project are as the checkout wants them."""
    packages = hashlib.sha256(lock)
    for part in (environment, below or "", sys.version_info[:2]):
        packages.update(f"\0{part}".encode())
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    return environment / f"packages-{packages.hexdigest()}", environment / f"project-{project.hexdigest()}"


def due(environment: Path, lock: bytes, below: Path | None) -> bool:
    """Whether anything is to be done. An interpreter that was upgraded away leaves a dangling link: due as well."""
    return not ((environment / "bin/python").exists() and all(s.exists() for s in stamps(environment, lock, below)))


def make(environment: Path, lock_path: Path, lock: bytes, below: Path | None) -> None:
    """Install the lock's packages if their stamp is absent, then the project; stamps are written last."""
    packages, project = stamps(environment, lock, below)
    python = environment / "bin/python"
    started = time.monotonic()
    if not (packages.exists() and python.exists()):
        _say(f"making {environment.name} from {lock_path.relative_to(ROOT)}; the first time this downloads packages")
        if environment.exists():
            shutil.rmtree(environment)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        if below:
            _see_packages_of(below, environment)
        subprocess.run([python, *PIP_INSTALL, "--require-hashes", "-r", lock_path], check=True)
        packages.touch()
    if not project.exists():
        _say(f"installing the project into {environment.name}")
        editable = ["--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        subprocess.run([python, *PIP_INSTALL, *editable], check=True)
        for stale in environment.glob("project-*"):
            stale.unlink()
        project.touch()
    _say(f"{environment.name} is ready ({time.monotonic() - started:.0f} s)")


def _see_packages_of(below: Path, environment: Path) -> None:
    """Let ``environment`` import what ``below`` holds: pip then counts those packages as installed."""
    site = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (environment / site / "below.pth").write_text(f"{below / site}\n")


def _say(line: str) -> None:
    sys.stderr.write(f"== {line}\n")


def _complain(line: str) -> int:
    sys.stderr.write(f"error: {line}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
