"""A cluster's certificates, as kubeadm names them: two authorities, whom they vouch for, kubeconfigs. By openssl."""

import base64
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bes_lab.errors import ClusterError

AUTHORITY, FRONT = "ca", "front-ca"
ACCOUNTS = "service-accounts"
"""Signs and checks the tokens of service accounts: ``service-accounts.key`` and ``.pub``."""
ADMIN = "admin"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_AUTHORITY_DAYS, _DAYS = "3650", "365"


@dataclass(frozen=True)
class Leaf:
    """One certificate. ``names``: DNS names and addresses of a server, as openssl writes them; none: a client's."""

    name: str
    user: str
    groups: tuple[str, ...] = ()
    authority: str = AUTHORITY
    names: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The subject as openssl takes it; Kubernetes reads O as groups and CN as user."""
        return "".join(f"/{kind}={value}" for kind, value in [*(("O", g) for g in self.groups), ("CN", self.user)])

    @property
    def extensions(self) -> str:
        """The extensions as openssl reads them."""
        usage = "serverAuth" if self.names else "clientAuth"
        lines = ["keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        return "\n".join([*lines, f"subjectAltName={','.join(self.names)}"] if self.names else lines) + "\n"


def control_plane_leaves(addresses: Iterable[str]) -> tuple[Leaf, ...]:
    """What an API server at ``addresses``, its controller manager and an administrator need."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    names = (*(f"DNS:{name}" for name in service), *(f"IP:{address}" for address in addresses))
    return (
        Leaf("kube-apiserver", "kube-apiserver", names=names),
        Leaf("kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)),
        Leaf("front-client", "front-proxy-client", authority=FRONT),
        Leaf(ADMIN, "kubernetes-admin", ("system:masters",)),
        Leaf("kube-controller-manager", "system:kube-controller-manager"),
    )


def node_leaf(node: str) -> Leaf:
    """What the kubelet of a node shows."""
    return Leaf(node, f"system:node:{node}", ("system:nodes",))


def issue(openssl: str, folder: Path, leaves: Sequence[Leaf]) -> None:
    """Make both authorities, the service accounts' key and every leaf in ``folder``. What is there stays.

    Raises ClusterError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for authority in (AUTHORITY, FRONT):
        if not _there(folder, authority):
            usage = "keyUsage=critical,digitalSignature,keyCertSign"
            made = ["-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-days", _AUTHORITY_DAYS]
            subject = ["-subj", f"/CN=best-effort-serving-{authority}", "-addext", usage]
            _run(folder, openssl, "req", "-x509", *_CURVE, *made, *subject)
    if not (folder / f"{ACCOUNTS}.pub").exists():
        _run(folder, openssl, "genrsa", "-out", f"{ACCOUNTS}.key", "2048")
        _run(folder, openssl, "rsa", "-in", f"{ACCOUNTS}.key", "-pubout", "-out", f"{ACCOUNTS}.pub")
    for leaf in leaves:
        if not _there(folder, leaf.name):
            _sign(folder, openssl, leaf)


def kubeconfig(folder: Path, name: str, url: str) -> str:
    """The kubeconfig with which the client ``name`` reaches the API server at ``url``. JSON, which is YAML."""

    def encoded(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    user = {"client-certificate-data": encoded(f"{name}.crt"), "client-key-data": encoded(f"{name}.key")}
    cluster = {"server": url, "certificate-authority-data": encoded(f"{AUTHORITY}.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "best-effort", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": "best-effort", "user": name}}],
        "current-context": name,
    }
    return json.dumps(document, indent=1) + "\n"


def write_kubeconfig(folder: Path, name: str, url: str) -> Path:
    """Put it beside the certificates, readable by nobody else."""
    path = folder / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubeconfig(folder, name, url), encoding="utf-8")
    return path


def _there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.crt").exists() and (folder / f"{name}.key").exists()


def _sign(folder: Path, openssl: str, leaf: Leaf) -> None:
    request, extensions = f"{leaf.name}.csr", f"{leaf.name}.extensions"
    (folder / extensions).write_text(leaf.extensions, encoding="utf-8")
    _run(folder, openssl, "req", "-new", *_CURVE, "-keyout", f"{leaf.name}.key", "-out", request, "-subj", leaf.subject)
    signed_by = ["-CA", f"{leaf.authority}.crt", "-CAkey", f"{leaf.authority}.key", "-CAcreateserial"]
    made = ["-out", f"{leaf.name}.crt", "-days", _DAYS, "-extfile", extensions]
    _run(folder, openssl, "x509", "-req", "-in", request, *signed_by, *made)
    for used in (request, extensions):
        (folder / used).unlink()


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command[:2])}` failed: {done.stderr[-300:]}; is it OpenSSL 1.1.1 or 3?")
