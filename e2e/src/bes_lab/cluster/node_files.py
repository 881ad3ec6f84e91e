"""What a node's programs read: containerd, pod network, kubelet and kube-proxy. Texts only.

Values that are not obvious follow from what a container or virtual machine without all of root's rights allows: out-of-
memory scores stay as they are, nothing is enforced on the node's own processes, and connection tracking is left alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bes_lab.cluster.archive import PAUSE
from bes_lab.cluster.layout import DNS_SERVICE, NAME, PODS, Node, State
from bes_lab.cluster.mounts import RESOLV

CONTAINERD, POD_NETWORK, KUBELET, PROXY = "containerd.toml", "net.d/10-bes.conflist", "kubelet.json", "kube-proxy.json"
KUBELET_PORT = 10250
_SOCKET = "unix:///run/containerd/containerd.sock"
_CONTAINERD = f"""\
version = 2
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def write_node_files(state: State, node: Node) -> None:
    """Put them into the node's folder."""
    folder = state.node(node)
    for name, text in node_files(state, node).items():
        (folder / name).write_text(text, encoding="utf-8")


def node_files(state: State, node: Node) -> Mapping[str, str]:
    """The texts by file name; JSON, where the program reads YAML, is YAML."""
    documents = {POD_NETWORK: _pod_network(node), KUBELET: _kubelet(state, node), PROXY: _proxy(state, node)}
    return {CONTAINERD: _CONTAINERD, **{name: json.dumps(each, indent=1) + "\n" for name, each in documents.items()}}


def _pod_network(node: Node) -> Mapping[str, Any]:
    """Addresses of pods stay as they are between nodes: nothing leaves, so nothing needs to be masked."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pods}]]},
    }
    mapped_ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": "bes", "plugins": [bridge, mapped_ports]}


def _kubelet(state: State, node: Node) -> Mapping[str, Any]:
    folder = state.node(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state.certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}/{node.name}",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": _SOCKET,
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        # Images come from nowhere but `bes cluster load-image`: none may be collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "oomScoreAdj": 0,
        "resolvConf": str(folder / RESOLV),
        "seccompDefault": True,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "volumePluginDir": str(folder / "volume-plugins"),
    }


def _proxy(state: State, node: Node) -> Mapping[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": node.address,
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(_proxy_kubeconfig(state.certificates))},
        "hostnameOverride": node.name,
        "mode": "iptables",
        "clusterCIDR": PODS,
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _proxy_kubeconfig(certificates: Path) -> Path:
    return certificates / "kube-proxy.kubeconfig"
