"""Where a local run's load figures come from: what the service asks for, as far as this machine has it."""

from dataclasses import dataclass

from bes_api.router_config import DirectLoad
from bes_api.rules.load import LONGEST_SCRAPE_INTERVAL
from bes_api.service import DIRECT, BestEffortService, Load
from bes_lab.errors import TargetError
from bes_lab.local.prometheus import LocalPrometheus, find_prometheus, the_prometheus

SCRAPE_SECONDS = 1.0
"""Of a Prometheus that the service does not ask for."""
SHORTEST_SCRAPE_SECONDS = 0.1


@dataclass(frozen=True)
class Figures:
    """The source, and a sentence about it for people."""

    load: DirectLoad | LocalPrometheus
    said: str


def figures_of(
    service: BestEffortService, prometheus: bool | None = None, scrape_interval_seconds: float | None = None
) -> Figures:
    """``prometheus`` None: as the service asks, if there is a binary here. Raises TargetError where one is missing.

    A Prometheus that a service names by URL is played by one of our own: nothing outside this machine is asked.
    """
    stated = service.spec.load or DIRECT
    asked = stated.prometheus
    if scrape_interval_seconds is not None:
        _check("--scrape-interval", scrape_interval_seconds)
    if prometheus is False or (prometheus is None and asked is None):
        return Figures(_direct(stated), "straight from the engines")
    if prometheus is None and find_prometheus() is None:
        return Figures(
            _direct(stated), "straight from the engines: there is no prometheus here; `make prometheus` fetches one"
        )
    interval = scrape_interval_seconds or (asked.scrape_interval.total_seconds() if asked else SCRAPE_SECONDS)
    _check("spec.load.prometheus.scrapeInterval", interval)
    stale = stated.stale_after if asked and scrape_interval_seconds is None else None
    load = LocalPrometheus(the_prometheus(), interval, stale.total_seconds() if stale else None)
    instead = f", in place of {asked.url}" if asked else ""
    return Figures(load, f"from a Prometheus of our own that scrapes every {interval:g} s{instead}")


def _check(field: str, seconds: float) -> None:
    longest = LONGEST_SCRAPE_INTERVAL.total_seconds()
    if seconds > longest:
        raise TargetError(
            f"{field}: {seconds:g}s is too long: Prometheus answers with nothing that is older than five minutes, and "
            f"load is another by then; expected at most {longest:g}s (1s to 15s is usual): write a "
            "shorter interval, or have figures straight from the engines by --no-prometheus"
        )
    if seconds < SHORTEST_SCRAPE_SECONDS:
        raise TargetError(
            f"{field}: {seconds:g}s is too short for a Prometheus beside what it scrapes; expected at least "
            f"{SHORTEST_SCRAPE_SECONDS:g}s (1s to 15s is usual): write a longer interval"
        )


def _direct(load: Load) -> DirectLoad:
    """As the resource states it, else the router's default."""
    if load.direct is None:
        return DirectLoad()
    stale = load.stale_after.total_seconds() if load.stale_after else None
    return DirectLoad(interval_seconds=load.direct.interval.total_seconds(), stale_after_seconds=stale)
