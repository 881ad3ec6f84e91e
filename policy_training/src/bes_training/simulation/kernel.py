"""Whole runs of a service in the simulator: arrivals, routers with their own views, engines, deaths, rewards.

Compiled as a whole by `compiled`; `simulate` is the door for everybody else. One request is one slot. Nothing here is
random: workloads, scrape phases and deaths come in as arrays.
"""

from math import inf
from typing import Any, NamedTuple

from bes_router.policy import blend
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.reward import reward_share
from bes_training.simulation import engines as fleet
from bes_training.simulation.brain import Brain, choose
from bes_training.simulation.scrapes import Figures, happen, look_live, tracker_of
from bes_training.simulation.state import EngineState

Array = Any  # numpy arrays; numba types them

REFUSED, NO_MODEL, PENDING = 3, 4, 5  # after the engines' FINISHED, ABORTED, LOST


class Requests(NamedTuple):
    """N requests, sorted by time."""

    time: Array
    task: Array
    prompt: Array
    output: Array
    router: Array
    full: Array  # seconds after arrival
    zero: Array


class Outcome(NamedTuple):
    """What became of each request."""

    model: Array
    engine: Array
    finish: Array  # instant
    share: Array  # of the model's quality: 1 in time .. 0
    status: Array


class Deaths(NamedTuple):
    """Engines that die and return, sorted by time; ``cursor[0]`` is the next one."""

    time: Array
    engine: Array
    ready: Array
    cursor: Array


class Simulation(NamedTuple):
    """Everything a run mutates."""

    catalogue: Catalogue
    fleet: EngineState
    trackers: Any  # a blend.Tracker whose every field has a leading router dimension
    requests: Requests
    outcome: Outcome
    figures: Figures
    deaths: Deaths
    max_in_flight: int


def settle(simulation: Simulation, slot: int, how: int, now: float) -> None:
    """A request ended: its share of the quality, and one less in its router's count."""
    requests = simulation.requests
    outcome = simulation.outcome
    outcome.finish[slot] = now
    outcome.status[slot] = how
    if how == fleet.FINISHED:
        task = requests.task[slot]
        measured = simulation.fleet.first_at[slot] if simulation.catalogue.first_token[task] else now
        outcome.share[slot] = reward_share(measured - requests.time[slot], requests.full[slot], requests.zero[slot])
    tracker = tracker_of(simulation.trackers, requests.router[slot])
    simulation.figures.ended[outcome.engine[slot]] += 1.0
    blend.finished(simulation.catalogue, tracker, outcome.engine[slot])


def settle_done(simulation: Simulation, now: float) -> None:
    """Settle everything that the last engine step reported."""
    state = simulation.fleet
    for index in range(state.done_count[0]):
        settle(simulation, state.done[index], state.done_how[index], now)
    state.done_count[0] = 0


def die_or_return(simulation: Simulation, now: float) -> None:
    """The next entry of the deaths happens."""
    deaths = simulation.deaths
    index = deaths.cursor[0]
    deaths.cursor[0] = index + 1
    engine = deaths.engine[index]
    for router in range(len(simulation.figures.every)):
        tracker = tracker_of(simulation.trackers, router)
        blend.set_ready(simulation.catalogue, tracker, engine, deaths.ready[index])
    if deaths.ready[index] == 0:
        fleet.clear(simulation.catalogue, simulation.fleet, engine, now)
        settle_done(simulation, now)


def advance(simulation: Simulation, until: float) -> None:
    """Process everything that happens before or at ``until``."""
    state = simulation.fleet
    figures = simulation.figures
    deaths = simulation.deaths
    gpus = len(state.next)
    while True:
        gpu = 0
        for other in range(1, gpus):
            if state.next[other] < state.next[gpu]:
                gpu = other
        instant = state.next[gpu]
        of_figures = figures.next[0] < instant and figures.next[0] <= until
        if of_figures:
            instant = figures.next[0]
        dying = deaths.cursor[0] < len(deaths.time) and deaths.time[deaths.cursor[0]] <= min(instant, until)
        if dying:
            die_or_return(simulation, deaths.time[deaths.cursor[0]])
        elif instant > until or instant == inf:
            return
        elif of_figures:
            happen(figures, state, simulation.trackers, instant)
        else:
            fleet.step(simulation.catalogue, state, gpu)
            if state.done_count[0] > 0:
                settle_done(simulation, instant)


def look(simulation: Simulation, router: int, now: float) -> LoadView:
    """A router's view at ``now``. A router that is alone and sees live knows everything from its own counts."""
    figures = simulation.figures
    tracker = tracker_of(simulation.trackers, router)
    if figures.live[0] == 1 and len(figures.every) > 1:
        look_live(figures, simulation.fleet, tracker, router, now)
    blend.refresh(simulation.catalogue, tracker, now)
    return blend.view_of(tracker, now)


def request_of(simulation: Simulation, slot: int) -> RoutingRequest:
    """What the router knows of a request."""
    requests = simulation.requests
    now = requests.time[slot]
    return RoutingRequest(
        requests.task[slot],
        requests.prompt[slot],
        requests.output[slot],
        now + requests.full[slot],
        now + requests.zero[slot],
        -1,
    )


def arrive(simulation: Simulation, slot: int) -> bool:
    """The next request arrives: time advances to it, its router counts it; False if admission refuses it."""
    now = simulation.requests.time[slot]
    advance(simulation, now)
    tracker = tracker_of(simulation.trackers, simulation.requests.router[slot])
    blend.arrived(tracker, now)
    if tracker.scalars[blend.TOTAL] >= simulation.max_in_flight:
        simulation.outcome.status[slot] = REFUSED
        simulation.outcome.finish[slot] = now
        return False
    return True


def dispatch(simulation: Simulation, slot: int, decision: Decision) -> None:
    """Send a request where the decision says."""
    now = simulation.requests.time[slot]
    outcome = simulation.outcome
    outcome.model[slot] = decision.model
    outcome.engine[slot] = decision.engine
    if decision.engine < 0:
        outcome.status[slot] = NO_MODEL
        outcome.finish[slot] = now
        return
    tracker = tracker_of(simulation.trackers, simulation.requests.router[slot])
    blend.sent(simulation.catalogue, tracker, decision.engine, now)
    fleet.submit(simulation.catalogue, simulation.fleet, decision.engine, slot, now)
    settle_done(simulation, now)


def run(simulation: Simulation, brain: Brain) -> None:
    """Play every request; the outcome arrays hold what became of them."""
    requests = simulation.requests
    for slot in range(len(requests.time)):
        if arrive(simulation, slot):
            now = requests.time[slot]
            view = look(simulation, requests.router[slot], now)
            decision = choose(simulation.catalogue, view, request_of(simulation, slot), now, brain)
            dispatch(simulation, slot, decision)
    finish_all(simulation)


def finish_all(simulation: Simulation) -> None:
    """Let everything in flight end. Scrapes stop: nobody decides any more."""
    simulation.figures.next[0] = inf
    state = simulation.fleet
    while True:
        latest = inf
        for gpu in range(len(state.next)):
            latest = min(latest, state.next[gpu])
        if latest == inf:
            return
        advance(simulation, latest)
