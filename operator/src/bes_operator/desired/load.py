"""Where routers learn how loaded the engines are, and what their pods mount for it: all of what is asked, or direct."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bes_api.origins import origin_of
from bes_api.router_config import DirectLoad, LoadSource, PrometheusLoad
from bes_api.service import DIRECT, Load
from bes_api.service import PrometheusLoad as AskedPrometheus
from bes_api.service_status import ConditionType, Reason
from bes_operator.desired.pods import folder
from bes_operator.desired.references import load_references, missing_message
from bes_operator.desired.request import Complaint, Desired
from bes_operator.settings import OperatorSettings

CERTIFICATES = Path("/etc/best-effort/prometheus-ca/ca.crt")
AUTHORIZATION = Path("/etc/best-effort/prometheus-authorization/value")
MEANWHILE = "meanwhile routers ask the engines themselves"


@dataclass(frozen=True)
class LoadPart:
    """What the routers' configuration and pods hold for load figures."""

    source: LoadSource
    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    complaints: tuple[Complaint, ...] = ()


def load_part(request: Desired) -> LoadPart:
    """The source that the service asks for, whole; where it may not or cannot be asked, the engines themselves."""
    load, settings = request.service.spec.load, request.settings
    if load is None:
        return LoadPart(_default(settings))
    if load.prometheus is None:
        return LoadPart(_direct(load))
    origin = origin_of(load.prometheus.url)
    if origin not in settings.prometheus_origins:
        return _refused(Reason.ORIGIN_NOT_ALLOWED, _not_allowed(origin, settings))
    for reference in load_references(load):
        if reference.key(request.namespace) in request.missing:
            return _refused(reference.reason, f"{missing_message(reference)}; {MEANWHILE}")
    return _asked(load, load.prometheus)


def _default(settings: OperatorSettings) -> LoadSource:
    if settings.default_prometheus_url is None:
        return _direct(DIRECT)
    return PrometheusLoad(
        url=settings.default_prometheus_url,
        scrape_interval_seconds=settings.default_prometheus_scrape_seconds,
        join_label="pod",
    )


def _direct(load: Load) -> DirectLoad:
    stated = load.direct or DIRECT.direct
    assert stated is not None  # noqa: S101 - DIRECT says so
    return DirectLoad(interval_seconds=stated.interval.total_seconds(), stale_after_seconds=_stale(load))


def _stale(load: Load) -> float | None:
    return None if load.stale_after is None else load.stale_after.total_seconds()


def _asked(load: Load, prometheus: AskedPrometheus) -> LoadPart:
    parts = []
    if (ca := prometheus.ca_config_map_ref) is not None:
        items = [{"key": ca.key, "path": CERTIFICATES.name}]
        source = {"configMap": {"name": ca.name, "items": items, "optional": True}}
        parts.append(folder("prometheus-ca", source, str(CERTIFICATES.parent)))
    if (secret := prometheus.authorization_secret_ref) is not None:
        items = [{"key": secret.key, "path": AUTHORIZATION.name}]
        source = {"secret": {"secretName": secret.name, "items": items, "optional": True}}
        parts.append(folder("prometheus-authorization", source, str(AUTHORIZATION.parent)))
    return LoadPart(
        PrometheusLoad(
            url=prometheus.url,
            scrape_interval_seconds=prometheus.scrape_interval.total_seconds(),
            stale_after_seconds=_stale(load),
            matchers=prometheus.matchers,
            join_label=prometheus.join_label,
            ca_file=None if prometheus.ca_config_map_ref is None else CERTIFICATES,
            authorization_file=None if prometheus.authorization_secret_ref is None else AUTHORIZATION,
        ),
        volumes=tuple(volume for volume, _ in parts),
        mounts=tuple(mount for _, mount in parts),
    )


def _not_allowed(origin: str, settings: OperatorSettings) -> str:
    allowed = ", ".join(settings.prometheus_origins) or "none"
    return (
        f"{origin} may not be asked: name an allowed Prometheus in spec.load.prometheus.url (allowed: {allowed}), or "
        f"add this one to the operator's prometheus_origins (the chart's prometheusOrigins); {MEANWHILE}"
    )


def _refused(reason: Reason, message: str) -> LoadPart:
    complaint = Complaint(ConditionType.LOAD_FIGURES, reason, message)
    return LoadPart(_direct(DIRECT), complaints=(complaint,))
