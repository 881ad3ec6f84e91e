"""From how exchanges end to which backends are kept out: the thin wiring around `ejection`, with its log lines."""

import logging
from collections import defaultdict
from collections.abc import Iterable

from bes_router.backends import Backend
from bes_router.ejection import Ejection, Event, Phase, Standing
from bes_router.errors import Reason
from bes_router.policy.layout import Catalogue, LoadView
from bes_router.policy.rules import finish_on
from bes_router.relay import Exchange
from bes_router.roster import Change
from bes_router.setbacks import Setbacks

log = logging.getLogger(__name__)

GENERATION_FAILED = 424
"""text-generation-inference's answer where others say 500."""
_NOT_ITS_FAULT = frozenset({Reason.CLIENT_GONE, Reason.CLIENT_STALLED, Reason.DRAINING})


class Judgement:
    """Tells `ejection` about one configuration's backends and does what it says."""

    def __init__(self, catalogue: Catalogue, setbacks: Setbacks) -> None:
        """Nobody is judged who did not come by `relisted`."""
        self._catalogue = catalogue
        self._setbacks = setbacks
        self._backends: dict[Standing, Backend] = {}
        self._groups: defaultdict[int, list[Standing]] = defaultdict(list)
        self._ejection = Ejection([], lambda standing: self._backends[standing].ready)

    def relisted(self, change: Change) -> None:
        """Judge who came, and no longer who left: what its requests come to is nobody's business any more."""
        for backend in change.left:
            standing = backend.standing
            del self._backends[standing]
            self._groups[backend.model].remove(standing)
            self._ejection.leave(standing)
            self._setbacks.out.pop(standing.label, None)
        for backend in change.came:
            self._backends[backend.standing] = backend
            self._groups[backend.model].append(backend.standing)
            self._ejection.enter(backend.standing, self._groups[backend.model])

    def end(self) -> None:
        """Judge nobody any more: the next configuration's judgement goes on with copies of what is known."""
        for standing in self._backends:
            self._ejection.leave(standing)
        self._backends.clear()
        self._groups.clear()

    def timed(self, exchange: Exchange, backend: Backend, view: LoadView, now: float) -> None:
        """Time a request that goes to ``backend``, whose next sample is due. Call it before the view changes."""
        standing = backend.standing
        exchange.sample = standing.timed(finish_on(self._catalogue, view, exchange.routing, backend.engine), now)
        if not standing.allowed:
            backend.hold(True)

    def answered(self, exchange: Exchange, status: int, now: float) -> None:
        """A whole answer came, good or bad."""
        if status >= 500 or status == GENERATION_FAILED:
            self._failed(exchange, now)
            return
        standing = exchange.backend.standing
        standing.good += 1
        sample = exchange.sample
        if sample is None:
            return
        exchange.sample = None
        if standing not in self._backends:
            return
        if status == 200:
            self._do(exchange.backend, self._ejection.answered(standing, sample, now))
        else:  # a refusal says nothing of how quick it is
            self._do(exchange.backend, self._ejection.withdrawn(standing, sample, now))

    def broke(self, exchange: Exchange, reason: Reason, now: float) -> None:
        """No whole answer came."""
        if reason in _NOT_ITS_FAULT:
            self.withdrawn(exchange, now)
        else:
            self._failed(exchange, now)

    def withdrawn(self, exchange: Exchange, now: float, *, missed: bool = False) -> None:
        """How long the exchange takes is no longer the backend's doing; ``missed``: it was aborted at its deadline."""
        sample, exchange.sample = exchange.sample, None
        if sample is not None and exchange.backend.standing in self._backends:
            event = self._ejection.withdrawn(exchange.backend.standing, sample, now, missed=missed)
            self._do(exchange.backend, event)

    def tick(self, now: float) -> None:
        """Notice who hangs and let those back whose time is over; called about twice a second."""
        self._all(self._ejection.tick(now, lambda standing: self._backends[standing].probed_at))

    def relent(self) -> bool:
        """Nothing eligible is left: whoever is kept out may be tried again. False if nobody was."""
        return self._all(self._ejection.relent())

    def _failed(self, exchange: Exchange, now: float) -> None:
        sample, exchange.sample = exchange.sample, None
        if exchange.backend.standing in self._backends:
            self._do(exchange.backend, self._ejection.failed(exchange.backend.standing, sample, now))

    def _all(self, events: Iterable[Event]) -> bool:
        some = False
        for event in events:
            self._do(self._backends[event.standing], event)
            some = True
        return some

    def _do(self, backend: Backend, event: Event | None) -> None:
        backend.hold(not backend.standing.allowed)
        if event is None:
            return
        self._setbacks.changed(event)
        if event.phase is Phase.EJECTED:
            log.warning("backend %s is kept out for %g s: %s", backend.label, event.seconds, event.cause)
        else:
            log.info("backend %s is %s", backend.label, "on trial" if event.phase is Phase.TRIAL else "back")
