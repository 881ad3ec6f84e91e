"""The discovery that a configuration asks for."""

from bes_api.discovery_config import StaticBackends
from bes_api.router_config import PrometheusLoad, RouterConfig
from bes_router.discovery.api import ApiServer
from bes_router.discovery.endpoint_slices import SliceDiscovery
from bes_router.discovery.found import Discovery
from bes_router.discovery.static import StaticList
from bes_router.errors import StartupError

INSTANCE = "instance"
"""Prometheus' own label: address and port of what it scraped."""


def discovery_of(config: RouterConfig, server: ApiServer | None, before: Discovery | None = None) -> Discovery:
    """It does nothing until it runs; ``before`` is the one whose knowledge it goes on from.

    Raises StartupError where there is no API server to ask.
    """
    asked = config.discovery
    if isinstance(asked, StaticBackends):
        return StaticList(asked)
    if server is None:
        raise StartupError(
            "discovery: EndpointSlices are those of the cluster that the router runs in, and this is none "
            "(KUBERNETES_SERVICE_HOST is not set): run it in a pod, or list the backends (type Static)"
        )
    by_instance = isinstance(config.load, PrometheusLoad) and config.load.join_label == INSTANCE
    found = SliceDiscovery(asked, config.scenario, server, join_by_name=not by_instance)
    if isinstance(before, SliceDiscovery):
        found.begin_with(before.known)
    return found
