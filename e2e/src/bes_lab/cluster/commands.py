"""Command lines of the control plane's programs, for the tests' one on loopback and for a whole cluster alike.

Flags that are not obvious: etcd without fsync, because nothing here outlives a power cut; no leader election, because
there is one of each; a controller manager that may ask as fast as a small cluster wants.
"""

from dataclasses import dataclass
from pathlib import Path

from bes_lab.cluster.certificates import ACCOUNTS, AUTHORITY, FRONT

_CLIENT_RATE = ("--kube-api-qps=200", "--kube-api-burst=400", "--leader-elect=false")


def etcd_command(program: str, data: Path, clients: str, peers: str) -> tuple[str, ...]:
    """etcd, one member, listening at the URLs ``clients`` and ``peers``."""
    return (
        program,
        f"--data-dir={data}",
        "--name=best-effort",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=best-effort={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


@dataclass(frozen=True)
class ApiServer:
    """Where an API server listens, under which address others know it, and where its certificates lie."""

    store: str
    bind: str
    address: str
    port: int
    services: str
    certificates: Path

    def command(self, program: str) -> tuple[str, ...]:
        """kube-apiserver."""
        folder = self.certificates
        return (
            program,
            f"--etcd-servers={self.store}",
            f"--bind-address={self.bind}",
            f"--advertise-address={self.address}",
            f"--external-hostname={self.address}",
            f"--secure-port={self.port}",
            f"--service-cluster-ip-range={self.services}",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={folder}/{AUTHORITY}.crt",
            f"--tls-cert-file={folder}/kube-apiserver.crt",
            f"--tls-private-key-file={folder}/kube-apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={folder}/{ACCOUNTS}.pub",
            f"--service-account-signing-key-file={folder}/{ACCOUNTS}.key",
            f"--kubelet-client-certificate={folder}/kubelet-client.crt",
            f"--kubelet-client-key={folder}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={folder}/{FRONT}.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={folder}/front-client.crt",
            f"--proxy-client-key-file={folder}/front-client.key",
        )


def controller_manager_command(program: str, kubeconfig: Path, certificates: Path) -> tuple[str, ...]:
    """kube-controller-manager; it listens nowhere, so that several may run side by side."""
    return (
        program,
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={certificates}/{ACCOUNTS}.key",
        f"--root-ca-file={certificates}/{AUTHORITY}.crt",
        f"--cluster-signing-cert-file={certificates}/{AUTHORITY}.crt",
        f"--cluster-signing-key-file={certificates}/{AUTHORITY}.key",
        "--use-service-account-credentials",
        "--allocate-node-cidrs=false",
        "--secure-port=0",
        *_CLIENT_RATE,
    )


def scheduler_command(program: str, kubeconfig: Path) -> tuple[str, ...]:
    """kube-scheduler; it listens nowhere."""
    return (program, f"--kubeconfig={kubeconfig}", "--secure-port=0", *_CLIENT_RATE)
