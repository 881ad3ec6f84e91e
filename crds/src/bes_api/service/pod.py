"""How pods are shaped: a closed list of Kubernetes' own fields, in Kubernetes' own forms.

``affinity`` alone is taken as it is: its form is four levels deep, grows with releases, and would stand in the resource
three times; the API server checks every field of it when Deployment or Job is applied, and status says what it refused.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, WithJsonSchema

from bes_api.quantities import (
    DataKey,
    DottedName,
    Label,
    LabelKey,
    LabelValue,
    ObjectName,
    Quantity,
    VariableName,
)
from bes_api.service.part import ATOMIC, BY_NAME, Flag, Part, map_by

Mode = Annotated[int, Field(strict=True, ge=0, le=0o777)]
Path = Annotated[str, Field(min_length=1, max_length=1024)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
Opaque = Annotated[
    dict[str, JsonValue], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]
"""An object of Kubernetes' that is passed through."""


class Toleration(Part):
    """A taint that the pod tolerates."""

    key: LabelKey | None = None
    """The taint's key; absent with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """How value is compared; absent: Equal."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent: every effect."""
    toleration_seconds: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] | None = None
    """How long NoExecute is tolerated; absent: for ever."""


class KeyReference(Part):
    """A value under a key of a ConfigMap or Secret beside the service."""

    name: ObjectName
    """Name of the ConfigMap or Secret."""
    key: DataKey
    """Key of its data."""
    optional: Flag | None = None
    """Whether the pod starts without it."""


class FieldReference(Part):
    """A field of the pod itself."""

    field_path: Annotated[str, Field(min_length=1, max_length=253)]
    """For example status.podIP."""


class VariableSource(Part):
    """Where a variable's value comes from: exactly one member."""

    secret_key_ref: KeyReference | None = None
    """A Secret's value."""
    config_map_key_ref: KeyReference | None = None
    """A ConfigMap's value."""
    field_ref: FieldReference | None = None
    """A field of the pod."""


class Variable(Part):
    """An environment variable."""

    name: VariableName
    """Its name."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value, as it is."""
    value_from: VariableSource | None = None
    """Where its value comes from; instead of value."""


class KeyToPath(Part):
    """One key of a volume as a file."""

    key: DataKey
    """Key of the data."""
    path: Path
    """Path below the mount."""
    mode: Mode | None = None
    """Permission bits."""


class ConfigMapVolume(Part):
    """A ConfigMap as files."""

    name: ObjectName
    """Its name."""
    items: Annotated[tuple[KeyToPath, ...], Field(max_length=32, json_schema_extra=ATOMIC)] | None = None
    """Absent: every key, under its own name."""
    default_mode: Mode | None = None
    """Permission bits of its files."""
    optional: Flag | None = None
    """Whether the pod starts without it."""


class SecretVolume(Part):
    """A Secret as files."""

    secret_name: ObjectName
    """Its name."""
    items: Annotated[tuple[KeyToPath, ...], Field(max_length=32, json_schema_extra=ATOMIC)] | None = None
    """Absent: every key, under its own name."""
    default_mode: Mode | None = None
    """Permission bits of its files."""
    optional: Flag | None = None
    """Whether the pod starts without it."""


class EmptyDirectory(Part):
    """A folder that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    """Memory: in memory, counted against the pod's limit; absent: the node's disk."""
    size_limit: Quantity | None = None
    """Its largest size."""


class ClaimVolume(Part):
    """A PersistentVolumeClaim beside the service."""

    claim_name: ObjectName
    """Its name."""
    read_only: Flag | None = None
    """Whether it is mounted read-only."""


class HostPathVolume(Part):
    """A path of the node."""

    path: Path
    """Path on the node."""
    type: Literal["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice"] | None = None
    """What must be there; absent: not checked."""


class NFSVolume(Part):
    """A folder of an NFS server."""

    server: Annotated[str, Field(min_length=1, max_length=253)]
    """Name or address of the server."""
    path: Path
    """The exported path."""
    read_only: Flag | None = None
    """Whether it is mounted read-only."""


class SecretName(Part):
    """A Secret beside the service."""

    name: ObjectName
    """Its name."""


class CSIVolume(Part):
    """A volume that a CSI driver makes for the pod."""

    driver: DottedName
    """Name of the driver."""
    read_only: Flag | None = None
    """Whether it is mounted read-only."""
    fs_type: Annotated[str, Field(max_length=63)] | None = None
    """Absent: the driver's own choice."""
    volume_attributes: Annotated[dict[DataKey, Annotated[str, Field(max_length=1024)]], Field(max_length=32)] | None = (
        None
    )
    """Settings of the driver."""
    node_publish_secret_ref: SecretName | None = None
    """Secret that the driver is given."""


class Volume(Part):
    """A volume of the pod: exactly one member beside name. Names that begin with bes- are the operator's."""

    name: Label
    """Its name."""
    config_map: ConfigMapVolume | None = None
    """A ConfigMap."""
    secret: SecretVolume | None = None
    """A Secret."""
    empty_dir: EmptyDirectory | None = None
    """A folder that lives as long as the pod."""
    persistent_volume_claim: ClaimVolume | None = None
    """A PersistentVolumeClaim."""
    host_path: HostPathVolume | None = None
    """A path of the node."""
    nfs: NFSVolume | None = None
    """A folder of an NFS server."""
    csi: CSIVolume | None = None
    """A volume of a CSI driver."""


class VolumeMount(Part):
    """Where a volume is mounted in the container."""

    name: Label
    """One of volumes."""
    mount_path: Path
    """Path in the container."""
    sub_path: Path | None = None
    """Path in the volume; absent: its root."""
    read_only: Flag | None = None
    """Whether it is mounted read-only."""


class PodPlace(Part):
    """Where pods may run and what is said on them: Kubernetes' own fields."""

    labels: Labels | None = None
    """Labels of the pod, beside the operator's."""
    annotations: Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = None
    """Annotations of the pod."""
    node_selector: Labels | None = None
    """Labels that its node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16, json_schema_extra=ATOMIC)] | None = None
    """Taints that it tolerates."""
    affinity: Opaque | None = None
    """Affinity as in a pod, checked by the API server when Deployment or Job is applied."""
    priority_class_name: ObjectName | None = None
    """Its PriorityClass."""
    runtime_class_name: ObjectName | None = None
    """Its RuntimeClass."""
    scheduler_name: ObjectName | None = None
    """Its scheduler."""


class Pod(PodPlace):
    """Shape of pods: Kubernetes' own fields."""

    env: Annotated[tuple[Variable, ...], Field(max_length=32, json_schema_extra=BY_NAME)] | None = None
    """Environment of its container."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16, json_schema_extra=BY_NAME)] | None = None
    """Volumes beside the operator's own."""
    volume_mounts: (
        Annotated[tuple[VolumeMount, ...], Field(max_length=16, json_schema_extra=map_by("mountPath"))] | None
    ) = None
    """Where volumes are mounted in its container."""


class EnginePod(Pod):
    """Shape of an engine's pods: Kubernetes' own fields."""

    service_account_name: ObjectName | None = None
    """Its ServiceAccount, for example one that may read the cache's bucket; no token of it is mounted."""


class Resources(Part):
    """Resources of a container."""

    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] | None = None
    """At most so much of each resource."""
    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] | None = None
    """At least so much; a resource that is absent here is requested as limited."""


class ContainerClaim(Part):
    """A device claim that the container uses."""

    name: Label
    """One of the model's resourceClaims."""
    request: Label | None = None
    """One request of that claim; absent: all of them."""


class EngineResources(Resources):
    """Resources of an engine's container, accelerators among them."""

    claims: Annotated[tuple[ContainerClaim, ...], Field(max_length=8, json_schema_extra=BY_NAME)] | None = None
    """Devices claimed by dynamic resource allocation."""


class PodClaim(Part):
    """A device claim of every pod, as in dynamic resource allocation: exactly one member beside name."""

    name: Label
    """Its name in the pod."""
    resource_claim_name: ObjectName | None = None
    """A ResourceClaim beside the service, shared by all pods."""
    resource_claim_template_name: ObjectName | None = None
    """A ResourceClaimTemplate beside the service, of which every pod gets a claim of its own."""


def written(part: Part) -> dict[str, Any]:
    """``part`` as Kubernetes writes it, without what was not stated."""
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)
