"""Build Kubernetes, etcd, CoreDNS, Helm, kubeconform and Prometheus into the user's cache, unless they are there.

Run by the Makefile with the system's Python, so it uses the standard library only. Versions are the Go modules' below
e2e/cluster/go (see pin.py there), checked against their go.sum; no root is needed. A program's folder in the cache is
named by everything that it is built from, and put there whole or not at all.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "e2e/cluster/go"
ORDER = ("etcd", "kubernetes", "helm", "coredns", "kubeconform", "pause", "prometheus")
GO_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin")
"""Where Go's own installer puts it; often not on the PATH."""


def main() -> int:
    """Build what is missing; the folders on stdout, one a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(ORDER)} (default: all)")
    parser.add_argument("--where", action="store_true", help="only print where built ones belong")
    arguments = parser.parse_args()
    unknown = set(arguments.modules) - set(ORDER)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}")
    for module in arguments.modules or ORDER:
        folder = place(module)
        problem = "" if arguments.where or folder.exists() else build(module, folder)
        if problem:
            sys.stderr.write(f"error: {module} cannot be built: {problem}\n")
            return 1
        sys.stdout.write(f"{folder}\n")
    return 0


def place(module: str) -> Path:
    """The folder of one module's programs."""
    content = hashlib.sha256("\0".join(flags(module)).encode())
    for source in sorted((MODULES / module).iterdir()):
        content.update(source.read_bytes())
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return root / "best-effort-serving/kubernetes" / f"{module}-{content.hexdigest()[:16]}"


def flags(module: str) -> list[str]:
    """Build flags: small, the same everywhere, and saying their own version, which a plain build leaves out."""
    text = (MODULES / module / "go.mod").read_text()
    said = {}
    if module == "kubernetes":
        version = required(text, "k8s.io/kubernetes")
        major, minor = version[1:].split(".")[:2]
        said = {f"k8s.io/component-base/version.git{name}": value
                for name, value in (("Version", version), ("Major", major), ("Minor", minor))}  # fmt: skip
    elif module == "helm":
        # As Helm's own Makefile: charts are rendered for the Kubernetes of its client library.
        minor = required(text, "k8s.io/client-go").split(".")[1]
        said = {"helm.sh/helm/v3/internal/version.version": required(text, "helm.sh/helm/v3")}
        for package in ("lint/rules", "chartutil"):
            said |= {f"helm.sh/helm/v3/pkg/{package}.k8sVersionMajor": "1"}
            said |= {f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor": minor}
    stamps = " ".join(f"-X {name}={value}" for name, value in said.items())
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {stamps}".strip()]


def required(text: str, module: str) -> str:
    """The version at which a go.mod requires ``module``."""
    found = re.search(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"error: a go.mod below {MODULES} does not require {module}; run pin.py there")
    return found[1]


def build(module: str, folder: Path) -> str:
    """Put the module's programs at ``folder``, whole or not at all; why not, or nothing."""
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *GO_PLACES]))
    if go is None:
        return "there is no Go (https://go.dev/dl, 1.24 or newer) on the PATH to build it with"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{module}.lock").open("w") as lock, tempfile.TemporaryDirectory(dir=folder.parent) as made:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once wait for each other
        if folder.exists():
            return ""
        started = time.monotonic()
        _say(f"building {module} (the first time: minutes, and its sources are fetched)")
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "auto"}
        described = subprocess.run(
            [go, "mod", "edit", "-json"], cwd=MODULES / module, check=True, stdout=subprocess.PIPE
        ).stdout
        tools = [each["Path"] for each in json.loads(described)["Tool"]]
        out = Path(made) / "programs"
        out.mkdir()
        command = [go, "build", *flags(module), "-o", f"{out}/", *tools]
        if subprocess.run(command, cwd=MODULES / module, env=environment, check=False).returncode:
            return (
                f"`{' '.join(command[:2])}` failed in {(MODULES / module).relative_to(ROOT)}; the reason stands above"
            )
        if module == "etcd":
            (out / "server").rename(out / "etcd")  # Go names a program after its folder
        out.replace(folder)
        _say(f"{module}: {', '.join(sorted(p.name for p in folder.iterdir()))} ({time.monotonic() - started:.0f} s)")
    return ""


def _say(line: str) -> None:
    sys.stderr.write(f"== {line}\n")


if __name__ == "__main__":
    sys.exit(main())
