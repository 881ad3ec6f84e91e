"""What surrounds a workload in a run: how routers learn of the load, engines that die, deadlines, aborts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from bes_router.policy import blend
from bes_training.simulation import scrapes

POLL_SECONDS = (0.25, 1.0)
"""The router asks Prometheus four times a scrape interval, within these bounds."""
DELAY_SECONDS = 0.05
MAX_LAG_SECONDS = 0.02
NEW_SHARE, OUTAGE_SHARE, UNCOUNTED_SHARE = 0.25, 0.1, 0.2
"""Of the runs with old figures: routers that were just started, Prometheus stops, engines do not count requests."""


@dataclass(frozen=True)
class Poll:
    """How one router asks for figures (seconds): every ``interval`` from ``first`` on, answered after ``delay``.

    ``lag``: by how much it believes figures to be younger than they are, what is left when clocks that may be half a
    minute apart were compared. ``share``: what it believes at the beginning to be its part; None: an equal one.
    """

    interval: float = 1.0
    first: float = 0.0
    delay: float = DELAY_SECONDS
    lag: float = 0.0
    share: float | None = None


@dataclass(frozen=True)
class LoadFigures:
    """How the routers, one entry in ``polls`` each, learn of the load.

    Every engine is scraped each ``interval`` seconds (0: figures are live; infinity: there are none) from its own
    ``phases`` entry on, but not from the beginning of the ``outage`` to its end. ``counted``: engines also say how
    many requests they finished.
    """

    polls: tuple[Poll, ...] = (Poll(),)
    interval: float = 0.0
    phases: tuple[float, ...] = ()
    outage: tuple[float, float] = (inf, inf)
    counted: bool = True

    @staticmethod
    def live(routers: int) -> "LoadFigures":
        """Live figures for ``routers`` routers."""
        return LoadFigures((Poll(),) * routers)

    @staticmethod
    def none(routers: int) -> "LoadFigures":
        """No figure ever."""
        return LoadFigures((Poll(),) * routers, inf)

    @staticmethod
    def old(routers: int, engines: int, interval: float, generator: np.random.Generator) -> "LoadFigures":
        """A scrape of each engine every ``interval`` seconds, polls as the router makes them, all in random phases."""
        every = min(max(interval / 4, POLL_SECONDS[0]), POLL_SECONDS[1])
        first = generator.uniform(0.0, every, routers)
        phases = generator.uniform(0.0, interval, engines)
        polls = tuple(Poll(every, float(each), DELAY_SECONDS) for each in first)
        return LoadFigures(polls, interval, tuple(map(float, phases)))

    @staticmethod
    def drawn(interval: float, shares: Sequence[float], engines: int, generator: np.random.Generator) -> "LoadFigures":
        """Old figures as in life: slow answers, clocks compared badly, counters missing, Prometheus gone for good.

        The routers have been running before and know their ``shares``, unless they do not (one time in four).
        """
        routers = len(shares)
        old = LoadFigures.old(routers, engines, interval, generator)
        delays = generator.uniform(0.005, 0.2, routers)
        lags = generator.uniform(0.0, min(MAX_LAG_SECONDS, interval / 2), routers)
        new = generator.random() < NEW_SHARE
        polls = tuple(
            replace(poll, delay=float(delay), lag=float(lag), share=None if new else max(blend.LEAST_SHARE, share))
            for poll, delay, lag, share in zip(old.polls, delays, lags, shares, strict=True)
        )
        gone = generator.random() < OUTAGE_SHARE
        outage = (float(generator.uniform(0.0, 2.0 * interval)), inf) if gone else (inf, inf)
        return replace(old, polls=polls, outage=outage, counted=bool(generator.random() >= UNCOUNTED_SHARE))


@dataclass(frozen=True)
class Circumstances:
    """What a run has beside its workload: load figures, deaths (instant, engine, ready), deadlines, aborts."""

    figures: LoadFigures = field(default_factory=LoadFigures)
    deaths: tuple[tuple[float, int, bool], ...] = ()
    deadline_factor: float = 1.0
    abort_all: bool = False
    """Drop expired requests whatever their task says (the DQN's training needs it)."""


def new_figures(given: LoadFigures, engines: int) -> scrapes.Figures:
    """The arrays of a run's figures at its beginning; check ``given`` before."""
    routers = len(given.polls)
    scraped = 0.0 < given.interval < inf
    unknown = np.zeros((scrapes.ROWS, engines))
    unknown[scrapes.AT] = blend.LONG_AGO
    unknown[scrapes.COUNT] = -1.0
    each = np.stack([unknown] * routers)
    figures = scrapes.Figures(
        live=np.array([int(given.interval == 0.0)]),
        counted=np.array([int(given.counted)]),
        interval=np.array([given.interval]),
        outage=np.array(given.outage),
        every=np.array([poll.interval for poll in given.polls]),
        delay=np.array([poll.delay for poll in given.polls]),
        lag=np.array([poll.lag for poll in given.polls]),
        next=np.full(1, inf),
        scrape_at=np.array(given.phases) if scraped else np.full(engines, inf),
        sample_at=np.full((routers, engines), inf),
        poll_at=np.array([poll.first if scraped else inf for poll in given.polls]),
        answer_at=np.full(routers, inf),
        ended=np.zeros(engines),
        scraped=unknown,
        sample=each,
        answer=each.copy(),
        taken=each.copy(),
    )
    scrapes.plan(figures)
    return figures
