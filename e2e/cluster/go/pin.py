"""Write the Go modules beside this file: one for each program that the cluster is built from, versions stated here.

Run by hand when a version moves (`python3 e2e/cluster/go/pin.py`); what it writes belongs into the commit. Each program
has a module of its own, because what they require of each other's libraries does not fit together. Standard library
only; asks the Go module proxy.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GO = "1.24.0"
KUBERNETES = "v1.33.13"
STAGED = "v0.33.13"
"""Kubernetes requires its own libraries at v0.0.0 and replaces them by folders of its tree; outside it they are modules
of this version."""
PROGRAMS = {
    "kubernetes": (
        "k8s.io/kubernetes",
        KUBERNETES,
        [
            f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            )
        ],
    ),
    "etcd": ("go.etcd.io/etcd/server/v3", "v3.6.8", ["go.etcd.io/etcd/server/v3"]),
    "coredns": ("github.com/coredns/coredns", "v1.12.4", ["github.com/coredns/coredns"]),
    "helm": ("helm.sh/helm/v3", "v3.19.0", ["helm.sh/helm/v3/cmd/helm"]),
    "prometheus": (
        "github.com/prometheus/prometheus",
        "v0.307.3",
        ["github.com/prometheus/prometheus/cmd/prometheus"],
    ),
    "kubeconform": ("github.com/yannh/kubeconform", "v0.7.0", ["github.com/yannh/kubeconform/cmd/kubeconform"]),
}


def main() -> int:
    """Pin every program named on the command line, or all."""
    for name in sys.argv[1:] or PROGRAMS:
        pin(name)
    return 0


def pin(name: str) -> None:
    """go.mod and go.sum of one program."""
    module, version, tools = PROGRAMS[name]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    lines = [f"module besteffort.dev/cluster/{name}", f"go {GO}"]
    lines += [f"replace {path} => {path} {STAGED}" for path in staged(module, version)]
    (folder / "go.mod").write_text("\n\n".join(lines) + "\n")
    (folder / "go.sum").unlink(missing_ok=True)
    # Not `go mod tidy`: it fetches what the tests of every dependency need, ten times as much.
    _go("get", "-tool", *(f"{tool}@{version}" for tool in tools), folder=folder)


def staged(module: str, version: str) -> list[str]:
    """The libraries that the module requires at v0.0.0."""
    found = json.loads(_go("mod", "download", "-json", f"{module}@{version}"))
    required = json.loads(_go("mod", "edit", "-json", found["GoMod"]))["Require"]
    return [each["Path"] for each in required if each["Version"] == "v0.0.0"]


def _go(*arguments: str, folder: Path = HERE) -> bytes:
    # S607: whichever Go is on the PATH
    return subprocess.run(["go", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE).stdout  # noqa: S607


if __name__ == "__main__":
    sys.exit(main())
