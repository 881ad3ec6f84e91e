"""The kinds that this operator handles, and where the API server keeps them.

Written down rather than discovered: discovery is one more thing that can fail, and rights are granted by these names.
"""

from dataclasses import dataclass
from urllib.parse import quote

SERVICE_KIND = "BestEffortService"


@dataclass(frozen=True)
class Kind:
    """One kind; ``api_version`` is `version` or `group/version`."""

    name: str
    api_version: str
    plural: str

    @property
    def group(self) -> str:
        """ "" for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Without the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path on the API server; None as namespace: over all of them."""
        parts = ["apis" if self.group else "api", *self.api_version.split("/")]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(SERVICE_KIND, "besteffort.dev/v1alpha1", "besteffortservices"),
        Kind("ConfigMap", "v1", "configmaps"),
        Kind("Secret", "v1", "secrets"),
        Kind("Service", "v1", "services"),
        Kind("ServiceAccount", "v1", "serviceaccounts"),
        Kind("Pod", "v1", "pods"),
        Kind("Deployment", "apps/v1", "deployments"),
        Kind("Job", "batch/v1", "jobs"),
        Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
        Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
        Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
        Kind("Lease", "coordination.k8s.io/v1", "leases"),
        Kind("Event", "events.k8s.io/v1", "events"),
    )
}

CHILD_KINDS = (
    "ConfigMap",
    "Secret",
    "Service",
    "ServiceAccount",
    "Deployment",
    "Job",
    "PodDisruptionBudget",
    "RoleBinding",
)
"""What a service owns: listed, watched, compared and pruned."""
WITNESS_KINDS = ("EndpointSlice", "Pod")
"""What others make for a service's children: listed and watched, never written."""
