"""Install what a native cluster and the images need of the distribution, or do nothing at once if it is there.

Run by the Makefile with the system's Python, so it uses the standard library only. Needs root and Debian or Ubuntu;
anywhere else it says what to install and fails.
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
"""A program or file that shows that it is there, and its package."""
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
SECONDS = 900


def main() -> int:
    """Install what is missing."""
    missing = absent()
    if not missing:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(
            f"error: missing packages: {' '.join(missing)}; install them (Debian's names), or run as root\n"
        )
        return 1
    sys.stderr.write(f"== installing {' '.join(missing)} from the distribution\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["-qq", "-o=Dpkg::Use-Pty=0"]
    for command in (
        ["apt-get", "update", *quiet],
        ["apt-get", "install", "-y", "--no-install-recommends", *quiet, *missing],
    ):
        done = subprocess.run(command, env=environment, stdout=sys.stderr, timeout=SECONDS, check=False)
        if done.returncode:
            sys.stderr.write(f"error: `{' '.join(command)}` ended with {done.returncode}; the reason stands above\n")
            return 1
    left = absent()
    if left:
        sys.stderr.write(f"error: still missing after their installation: {' '.join(left)}\n")
    return 1 if left else 0


def absent() -> list[str]:
    """Packages of which nothing can be seen."""
    return sorted({package for shown, package in PACKAGES.items() if shutil.which(shown, path=PATH) is None})


if __name__ == "__main__":
    sys.exit(main())
