"""The router's load view: `blend` over Python lists, the quickest thing to index there."""

import math
from collections.abc import Sequence

from bes_router.policy import blend
from bes_router.policy.layout import Catalogue, Floats, LoadView


def new_tracker(catalogue: Catalogue, now: float, share: float | None = None) -> blend.Tracker:
    """A tracker of lists that believes every engine ready and idle, and ``share`` of the traffic to be its own.

    None: all of it, until the first figures come.
    """
    engines, models, gpus = len(catalogue.engine_model), len(catalogue.context), len(catalogue.interference)
    scalars = [0.0] * blend.SCALARS
    scalars[blend.RATE_AT] = now
    scalars[blend.SHARE] = 1.0 if share is None else share
    if share is not None:
        scalars[blend.OWN_COUNTED] = share * blend.ENOUGH_REQUESTS
        scalars[blend.ALL_COUNTED] = blend.ENOUGH_REQUESTS
    scalars[blend.SNAPSHOT_AT] = blend.LONG_AGO
    scalars[blend.REFRESHED_AT] = blend.LONG_AGO
    scalars[blend.ROUND_FROM] = blend.LONG_AGO
    return blend.Tracker(
        own=[0.0] * engines,
        own_model=[0.0] * models,
        ended=[0.0] * engines,
        others=[0.0] * engines,
        known=[0] * engines,
        figure_at=[blend.LONG_AGO] * engines,
        load=[0.0] * engines,
        model_load=[0.0] * models,
        gpu_load=[0.0] * gpus,
        gpu_busy=[0.0] * gpus,
        ready=[1] * engines,
        ready_count=[catalogue.model_first[m + 1] - catalogue.model_first[m] for m in range(models)],
        sent_engine=[blend.LONG_AGO] * engines,
        sent_gpu=[blend.LONG_AGO] * gpus,
        last_engine=[-1] * models,
        scalars=scalars,
    )


class LoadTracker:
    """Own requests in flight (exact), snapshots of everybody's, readiness and rates; `view` blends them."""

    def __init__(self, catalogue: Catalogue, now: float, share: float | None = None) -> None:
        self._catalogue = catalogue
        self._state = new_tracker(catalogue, now, share)

    @property
    def own(self) -> Floats:
        """This router's requests in flight per engine."""
        return self._state.own

    @property
    def finished_own(self) -> Floats:
        """This router's requests that ended, however, per engine since the beginning."""
        return self._state.ended

    @property
    def in_flight(self) -> int:
        """This router's requests in flight altogether."""
        return round(self._state.scalars[blend.TOTAL])

    @property
    def share(self) -> float:
        """The share of the traffic that this router believes to be its own."""
        return self._state.scalars[blend.SHARE]

    @property
    def figures_at(self) -> float:
        """The instant of the newest snapshot; long ago where there is none."""
        return self._state.scalars[blend.SNAPSHOT_AT]

    def arrived(self, now: float) -> None:
        """Count an arrival; call it once per request, before `view`."""
        blend.arrived(self._state, now)

    def sent(self, engine: int, now: float) -> None:
        """Count a request sent to ``engine``; `finished` must follow exactly once."""
        blend.sent(self._catalogue, self._state, engine, now)

    def finished(self, engine: int) -> None:
        """Count the end, however it came, of a request sent to ``engine``."""
        blend.finished(self._catalogue, self._state, engine)

    def set_ready(self, engine: int, ready: bool) -> None:
        """Say whether ``engine`` may be chosen."""
        blend.set_ready(self._catalogue, self._state, engine, int(ready))

    def snapshot(
        self,
        counts: Sequence[float | None],
        own_then: Floats,
        at: Sequence[float],
        served: tuple[float, float] | None = None,
    ) -> None:
        """Take figures of requests in flight per engine, each true at its ``at`` when `own` was ``own_then``.

        None, or a number that is no count, means unknown. ``served``: how many requests this router and everybody
        finished on the engines whose figure is new, between that figure and the one before it; None where the engines
        do not say. Count each such span once: it is where the share of the traffic is learned from.
        """
        known = [-1.0 if count is None or not math.isfinite(count) else count for count in counts]
        own_served, all_served = served or (-1.0, -1.0)
        blend.snapshot(self._state, known, own_then, at, own_served, all_served)

    def view(self, now: float) -> LoadView:
        """The load as believed at ``now``. It shares this object's lists: decide before anything else happens."""
        blend.refresh(self._catalogue, self._state, now)
        return blend.view_of(self._state, now)
