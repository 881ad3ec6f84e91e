"""What a source of load figures is, and the one that a configuration asks for."""

from typing import Protocol

from bes_api.router_config import DirectLoad, RouterConfig
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

    async def run(self) -> None:
        """Read for ever, at a steady pace."""


def targets_of(config: RouterConfig, catalogue: Catalogue) -> tuple[Target, ...]:
    """Every listed backend with its number in the catalogue."""
    models = [model.name for model in config.scenario.models]
    return tuple(
        Target(
            engine=catalogue.model_first[models.index(backend.model)] + backend.replica,
            label=f"{backend.model}/{backend.replica}",
            address=backend.address,
            port=backend.port,
            gauges=backend.gauges,
            finished=backend.finished,
            join=backend.joined_by,
        )
        for backend in config.backends
    )


def load_source(config: RouterConfig, catalogue: Catalogue, tracker: Tracker) -> Source:
    """The source that ``config`` asks for; it does nothing until it runs."""
    targets, count = targets_of(config, catalogue), len(catalogue.engine_model)
    settings = config.load
    if isinstance(settings, DirectLoad):
        return DirectSource(targets, count, settings, tracker)
    from bes_router.load.prometheus import PrometheusSource  # noqa: PLC0415 - `direct` need not pay for its HTTP client

    return PrometheusSource(targets, count, settings, tracker)
