"""Where a cluster's programs are: what `make kubernetes` built, and what the distribution installs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bes_lab.cluster.checkout import checkout
from bes_lab.errors import ClusterError

SYSTEM_PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
"""Administrators' programs are often not on a user's PATH."""
BUILT = frozenset(
    {
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
        *("coredns", "helm", "kubeconform", "pause", "prometheus"),
    }
)
"""Only ever taken from what `make kubernetes` built: the system's may be years older."""


def built_folders() -> tuple[Path, ...]:
    """Where `requirements/kubernetes.py` puts what it builds for this checkout, whether it is there or not."""
    script = checkout() / "requirements" / "kubernetes.py"
    said = subprocess.run([sys.executable, script, "--where"], check=True, stdout=subprocess.PIPE, text=True)
    return tuple(Path(line) for line in said.stdout.splitlines())


class Programs:
    """Programs by name: the built ones, and the system's for everything else."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)

    @property
    def path(self) -> str:
        """A PATH on which all of them are found."""
        return os.pathsep.join([*map(str, self._folders), *SYSTEM_PLACES, os.environ.get("PATH", os.defpath)])

    def find(self, name: str) -> Path | None:
        """The program, or None."""
        places = os.pathsep.join(map(str, self._folders)) if name in BUILT else self.path
        found = shutil.which(name, path=places)
        return None if found is None else Path(found)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that are not there."""
        return [name for name in names if self.find(name) is None]

    def __getitem__(self, name: str) -> str:
        """The program. Raises ClusterError with the mend."""
        found = self.find(name)
        if found is None:
            mend = (
                "`make kubernetes`, which builds it" if name in BUILT else "`make cluster-packages`, which installs it"
            )
            raise ClusterError(f"there is no {name}: run {mend}")
        return str(found)


def the_programs() -> Programs:
    """The programs of this checkout."""
    return Programs(built_folders())


def output(*command: str | Path, stdin: str | None = None, seconds: float = 120.0) -> str:
    """Run a program to its end; what it said. Raises ClusterError with what it complained about."""
    said = " ".join(map(str, command))
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{said}` did not end within {seconds:g} s") from None
    if done.returncode:
        raise ClusterError(f"`{said}` failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def succeeds(*command: str | Path, seconds: float = 20.0) -> bool:
    """Whether a program ends well; nothing is said."""
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False).returncode == 0
    except (subprocess.TimeoutExpired, OSError):
        return False
