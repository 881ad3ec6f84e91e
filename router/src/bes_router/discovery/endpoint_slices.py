"""Engines by the EndpointSlices of a cluster: listed once, then watched, and listed again when the thread is lost.

What was known stays while the API server cannot be asked. An event that is not newer than what was seen changes
nothing, so that duplicates and latecomers do no harm.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bes_api.discovery_config import BackendAddress, EndpointSlices, ServedModel
from bes_api.scenario import Scenario
from bes_router.discovery.api import ApiServer, Event, SliceClient
from bes_router.discovery.found import Found, Listed, Report, Tell
from bes_router.discovery.seats import Seats, seated
from bes_router.discovery.slices import EndpointSlice, Pod, pods_of
from bes_router.errors import DiscoveryError, ExpiredError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What a discovery knows, which the next one may begin with."""

    slices: Mapping[str, EndpointSlice]
    seats: Seats


class SliceDiscovery:
    """Engines of ``config``'s Services, as replicas of ``scenario``. ``join_by_name``: figures carry the pod's name."""

    name = "endpointslices"

    def __init__(self, config: EndpointSlices, scenario: Scenario, server: ApiServer, *, join_by_name: bool) -> None:
        self._config = config
        self._scenario = scenario
        self._client = SliceClient(server, config.namespace, [engines.service for engines in config.engines])
        self._join_by_name = join_by_name
        self._pace = server.pace
        self._ports = {engines.service: engines.port_name for engines in config.engines}
        self._slices: dict[str, EndpointSlice] = {}
        self._seats: Seats = {}
        self._version = ""
        self._listed_at = 0.0
        self._told: Found | None = None
        self.report = Report()

    @property
    def known(self) -> Known:
        """For the next one to begin with."""
        return Known(dict(self._slices), dict(self._seats))

    def begin_with(self, known: Known) -> None:
        """Take what another knew, as far as this one's Services go, until it is listed."""
        self._slices = {name: each for name, each in known.slices.items() if each.service in self._ports}
        self._seats = known.seats

    async def run(self, tell: Tell) -> None:
        """See `Discovery`."""
        self._tell(tell, current=False)
        failures = 0
        try:
            while True:
                problem: DiscoveryError | None = None
                began = time.monotonic()
                try:
                    await self._turn(tell)
                except DiscoveryError as error:
                    problem = error
                except Exception as error:  # the outermost loop: one bad turn must not be the last
                    log.exception("looking for engines failed")
                    problem = DiscoveryError(repr(error))
                failures = 0 if (self.report.heard_at or 0.0) - began >= self._pace.settled else failures + 1
                if problem is not None:
                    self._failed(problem, failures)
                await asyncio.sleep(self._pace.pause(failures, problem.retry_after if problem is not None else 0.0))
        finally:
            await self._client.close()

    async def _turn(self, tell: Tell) -> None:
        """List where that is due, then watch until the server ends it or something is wrong."""
        now = time.monotonic()
        if not self._version or now - self._listed_at > self._pace.relist:
            self._slices, self._version = await self._client.list()
            self._listed_at = now
            self.report.lists += 1
            self._heard()
            self._tell(tell)
        await self._client.watch(self._version, lambda event: self._take(event, tell))
        self._heard()

    def _take(self, event: Event | None, tell: Tell) -> None:
        self._heard()
        if event is None or not _newer(event.version, self._version):
            return
        self._version = event.version
        if event.slice is None:
            return
        name = event.slice.metadata.name
        if event.gone:
            self._slices.pop(name, None)
        else:
            self._slices[name] = event.slice
        self._tell(tell)

    def _tell(self, tell: Tell, *, current: bool = True) -> None:
        """Tell what the slices come to, if that is new."""
        pods = pods_of(self._slices.values(), self._ports)
        seating = seated(
            self._scenario, {engines.model: pods[engines.service] for engines in self._config.engines}, self._seats
        )
        self._seats = seating.seats
        self.report.waiting, self.report.guessed = seating.waiting, seating.guessed
        self.report.unserved = tuple(service for service, here in pods.items() if not here)
        listed = []
        for engines in self._config.engines:
            for pod in pods[engines.service]:
                replica = seating.seats.get((engines.model, pod.key))
                if replica is not None:
                    listed.append(Listed(self._address(engines, pod, replica), pod.ready))
        found = Found(tuple(listed), current)
        if found != self._told:
            self._told = found
            tell(found)

    def _address(self, engines: ServedModel, pod: Pod, replica: int) -> BackendAddress:
        return BackendAddress(
            model=engines.model,
            replica=replica,
            address=pod.address,
            port=pod.port,
            served_model=engines.served_model,
            health_path=engines.health_path,
            gauges=engines.gauges,
            finished=engines.finished,
            join=pod.name or None if self._join_by_name else None,
        )

    def _heard(self) -> None:
        self.report.heard_at = time.monotonic()
        if self.report.problem:
            self.report.problem = ""
            log.info("the API server says again which engines run")

    def _failed(self, error: DiscoveryError, failures: int) -> None:
        """Go on with what is known; log where it turned bad, not each time."""
        if isinstance(error, ExpiredError) or failures > 1:
            self._version = ""
        self.report.failures += 1
        if not self.report.problem:
            log.warning("which engines run is as it was last known: %s", error)
        self.report.problem = str(error)


def _newer(version: str, than: str) -> bool:
    """Whether an event of ``version`` is news. Versions are numbers, unless a server says otherwise."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
