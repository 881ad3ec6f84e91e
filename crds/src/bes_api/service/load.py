"""Where routers learn how loaded the engines are."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from bes_api.origins import PrometheusURL
from bes_api.quantities import DataKey, Duration, LabelName, ObjectName
from bes_api.service.engine import SecretReference
from bes_api.service.part import Part

DEFAULT_INTERVAL = timedelta(seconds=1)


class DirectLoad(Part):
    """Load figures from the engines' own metrics pages."""

    interval: Duration
    """How often each router asks each engine."""


class CertificateReference(Part):
    """Certificates (PEM) under a key of a ConfigMap beside the service."""

    name: ObjectName
    """Name of the ConfigMap."""
    key: DataKey = "ca.crt"
    """Key of its data."""


class PrometheusLoad(Part):
    """Load figures from a Prometheus that scrapes the engines. Metric names are the engines' business."""

    url: PrometheusURL
    """Where it is, for example http://prometheus.monitoring:9090; the operator's allow-list must name its origin."""
    scrape_interval: Duration
    """How often it scrapes the engines."""
    matchers: dict[LabelName, Annotated[str, Field(max_length=256)]] = Field(default={}, max_length=16)
    """Labels that the engines' series must have, beside joinLabel."""
    join_label: LabelName = "pod"
    """The label that names an engine's pod."""
    ca_config_map_ref: CertificateReference | None = None
    """Certificates that an https server may show; absent: the usual ones."""
    authorization_secret_ref: SecretReference | None = None
    """A token, sent as `Authorization: Bearer`, or a whole value such as `Basic ...`."""


class Load(Part):
    """Where load figures come from: exactly one source."""

    direct: DirectLoad | None = None
    """The engines' own metrics pages."""
    prometheus: PrometheusLoad | None = None
    """A Prometheus that scrapes the engines."""
    stale_after: Duration | None = None
    """A figure older than this is unknown; absent: three (scrape) intervals."""


DIRECT = Load(direct=DirectLoad(interval=DEFAULT_INTERVAL))
"""What counts where neither the resource nor whoever runs it names a source."""
