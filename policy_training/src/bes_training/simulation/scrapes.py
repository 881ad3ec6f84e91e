"""Load figures on their way from the engines to the routers, as in life: Prometheus scrapes each engine at instants of
its own, each router polls Prometheus at its own pace, and the answer takes a while.

A plain module (see `compiled`), part of a run. A router knows from its own records what it had in flight when an engine
was scraped, but places that instant a little late (``lag``): clocks are only compared through Prometheus.
"""

from math import inf
from typing import Any, NamedTuple

from bes_router.policy import blend
from bes_training.simulation import engines as fleet
from bes_training.simulation.state import EngineState

Array = Any  # numpy arrays; numba types them

AT, COUNT, OWN, ENDED, OWN_ENDED = range(5)  # rows of a figure; own counts are the router's at that instant
ROWS = 5


class Figures(NamedTuple):
    """R routers, E engines; times are instants or seconds."""

    live: Array  # [1] 1 = every router knows the truth at every decision
    counted: Array  # [1] 1 = engines also say how many requests ended
    interval: Array  # [1] between two scrapes of an engine
    outage: Array  # [2] from the first instant to the second nothing is scraped
    every: Array  # [R] between two polls
    delay: Array  # [R] of a poll's answer
    lag: Array  # [R]
    next: Array  # [1] the earliest of the four below
    scrape_at: Array  # [E]
    sample_at: Array  # [R, E] when the router's records belong to the newest scrape
    poll_at: Array  # [R]
    answer_at: Array  # [R]
    ended: Array  # [E] everybody's requests that ended so far
    scraped: Array  # [ROWS, E] the newest scrape (rows of own counts unused)
    sample: Array  # [R, ROWS, E] the same, joined to the router's records
    answer: Array  # [R, ROWS, E] on its way to the router
    taken: Array  # [R, ROWS, E] what the router had before


def tracker_of(trackers: Any, router: int) -> blend.Tracker:
    """One router's rows."""
    return blend.Tracker(
        trackers.own[router],
        trackers.own_model[router],
        trackers.ended[router],
        trackers.others[router],
        trackers.known[router],
        trackers.figure_at[router],
        trackers.load[router],
        trackers.model_load[router],
        trackers.gpu_load[router],
        trackers.gpu_busy[router],
        trackers.ready[router],
        trackers.ready_count[router],
        trackers.sent_engine[router],
        trackers.sent_gpu[router],
        trackers.last_engine[router],
        trackers.scalars[router],
    )


def happen(figures: Figures, state: EngineState, trackers: Any, now: float) -> None:
    """Everything that is due at ``now``: scrapes, their joining to the routers' records, answers, polls."""
    routers = len(figures.every)
    for engine in range(len(figures.scrape_at)):
        if figures.scrape_at[engine] <= now:
            scrape(figures, state, engine, now, trackers.ready[0, engine] == 1)
        for router in range(routers):
            if figures.sample_at[router, engine] <= now:
                join(figures, trackers, router, engine)
    for router in range(routers):
        if figures.answer_at[router] <= now:
            figures.answer_at[router] = inf
            hand_over(figures, tracker_of(trackers, router), router)
        if figures.poll_at[router] <= now:
            poll(figures, router, now)
    plan(figures)


def plan(figures: Figures) -> None:
    """Note when the next of them is due."""
    earliest = inf
    for engine in range(len(figures.scrape_at)):
        earliest = min(earliest, figures.scrape_at[engine])
        for router in range(len(figures.every)):
            earliest = min(earliest, figures.sample_at[router, engine])
    for router in range(len(figures.every)):
        earliest = min(earliest, figures.answer_at[router], figures.poll_at[router])
    figures.next[0] = earliest


def scrape(figures: Figures, state: EngineState, engine: int, now: float, alive: bool) -> None:
    """One engine's figures; a dead engine gives none. After an outage scrapes go on in their old phase."""
    if alive:
        figures.scraped[AT, engine] = now
        figures.scraped[COUNT, engine] = fleet.in_flight(state, engine)
        figures.scraped[ENDED, engine] = figures.ended[engine]
        for router in range(len(figures.every)):
            figures.sample_at[router, engine] = now + figures.lag[router]
    following = now + figures.interval[0]
    while figures.outage[0] <= following < figures.outage[1]:
        following = following + figures.interval[0] if figures.outage[1] < inf else inf
    figures.scrape_at[engine] = following


def join(figures: Figures, trackers: Any, router: int, engine: int) -> None:
    """The newest scrape of an engine beside what the router believes to have had there at that instant."""
    sample = figures.sample[router]
    sample[AT, engine] = figures.sample_at[router, engine]
    sample[COUNT, engine] = figures.scraped[COUNT, engine]
    sample[ENDED, engine] = figures.scraped[ENDED, engine]
    sample[OWN, engine] = trackers.own[router, engine]
    sample[OWN_ENDED, engine] = trackers.ended[router, engine]
    figures.sample_at[router, engine] = inf


def poll(figures: Figures, router: int, now: float) -> None:
    """A router asks: what is known now reaches it after the delay."""
    for row in range(ROWS):
        for engine in range(len(figures.scrape_at)):
            figures.answer[router, row, engine] = figures.sample[router, row, engine]
    figures.answer_at[router] = now + figures.delay[router]
    figures.poll_at[router] = now + figures.every[router]


def hand_over(figures: Figures, tracker: blend.Tracker, router: int) -> None:
    """An answer reaches its router's view, with what ended between the newest figures and those before them."""
    answer = figures.answer[router]
    taken = figures.taken[router]
    spans = 0
    own = 0.0
    everybody = 0.0
    for engine in range(len(figures.scrape_at)):
        if answer[AT, engine] > taken[AT, engine] > blend.LONG_AGO:
            spans += 1
            own += answer[OWN_ENDED, engine] - taken[OWN_ENDED, engine]
            everybody += answer[ENDED, engine] - taken[ENDED, engine]
        for row in range(ROWS):
            taken[row, engine] = answer[row, engine]
    if spans == 0 or figures.counted[0] == 0:
        own = -1.0
        everybody = -1.0
    blend.snapshot(tracker, answer[COUNT], answer[OWN], answer[AT], own, everybody)


def look_live(figures: Figures, state: EngineState, tracker: blend.Tracker, router: int, now: float) -> None:
    """Live figures: everything as it is at this instant."""
    answer = figures.answer[router]
    for engine in range(len(figures.scrape_at)):
        answer[AT, engine] = now
        answer[COUNT, engine] = fleet.in_flight(state, engine)
        answer[OWN, engine] = tracker.own[engine]
        answer[ENDED, engine] = figures.ended[engine]
        answer[OWN_ENDED, engine] = tracker.ended[engine]
    hand_over(figures, tracker, router)
