"""What a source of load figures is, and the one that a configuration asks for."""

from collections.abc import Sequence
from typing import Protocol

from bes_api.router_config import DirectLoad, RouterConfig
from bes_router.backends import Backend
from bes_router.load.board import Board, Target, Tracker
from bes_router.load.direct import DirectSource
from bes_router.load.tally import Tally
from bes_router.policy.layout import Catalogue


class Source(Protocol):
    """Reads figures until its task is cancelled."""

    @property
    def name(self) -> str:
        """As metrics and status say it: ``direct`` or ``prometheus``."""
        ...

    @property
    def board(self) -> Board:
        """What is known of each engine."""
        ...

    @property
    def tally(self) -> Tally:
        """Questions asked so far."""
        ...

    def relist(self, targets: Sequence[Target]) -> None:
        """Read the figures of ``targets`` from now on; what is known of those that stay remains."""

    async def run(self) -> None:
        """Read for ever, at a steady pace."""


def target_of(backend: Backend) -> Target:
    """What figures are wanted of ``backend``."""
    listed = backend.listed
    return Target(
        engine=backend.engine,
        label=backend.label,
        address=listed.address,
        port=listed.port,
        gauges=listed.gauges,
        finished=listed.finished,
        join=listed.joined_by,
    )


def load_source(config: RouterConfig, catalogue: Catalogue, tracker: Tracker) -> Source:
    """The source that ``config`` asks for. It does nothing until it runs, and needs to be told of whom (`relist`)."""
    count = len(catalogue.engine_model)
    settings = config.load
    if isinstance(settings, DirectLoad):
        return DirectSource((), count, settings, tracker)
    from bes_router.load.prometheus import PrometheusSource  # noqa: PLC0415 - `direct` need not pay for its HTTP client

    return PrometheusSource((), count, settings, tracker)
