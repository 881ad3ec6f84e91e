"""The blended view: what one router believes of the load, from its own requests (exact) and a snapshot of any age.

Per engine: in flight = own + w * (snapshot - own at the snapshot's instant) + (1 - w) * (1/share - 1) * usual, with
w = exp(-age / 0.3 s), each engine's figure with its own age, and usual = share * own there + (1 - share) * mean own at
that model: the larger a router's share, the more its own distribution over engines says. Own sends and finishes count
at once; the others' part is computed anew at most every 20 ms. How much of the view is guessed is part of it: the
others' share of the traffic, as far as figures are not fresh (the mean of 1 - w over ready engines). Loaded plainly by
the router and compiled by the simulator.

The share of the traffic that is this router's is its part of the requests that everybody finished. They are counted in
rounds, in which every engine's figure was renewed: an engine alone says little, since routers prefer some. Earlier
rounds weigh at most as much as `MEMORY_REQUESTS`. A round that differs from those before it by more than `SURPRISE`
standard errors is a change and no noise: what was counted before it is forgotten.
"""

import math
from typing import NamedTuple

from bes_router.policy.layout import Catalogue, Floats, LoadView, MutableFloats, MutableInts

FRESH_SECONDS = 0.3  # memory of a snapshot
REFRESH_SECONDS = 0.02
FAST_SECONDS = 0.5
SLOW_SECONDS = 2.0
MEMORY_REQUESTS = 1000.0
ENOUGH_REQUESTS = 100.0  # a round of fewer goes on
SURPRISE = 4.0
TURNOVER_SECONDS = 1.0  # figures of requests in flight this far apart count other requests, nearer ones the same again
LEAST_SHARE = 0.02
LONG_AGO = -1e9

# Places in `Tracker.scalars`
RATE_FAST, RATE_SLOW, RATE_AT, SHARE, SNAPSHOT_AT, REFRESHED_AT, TOTAL = range(7)
OWN_COUNTED, ALL_COUNTED = range(7, 9)  # requests of earlier rounds that the share was learned from
OWN_ROUND, ALL_ROUND, ROUND_FROM = range(9, 12)  # requests of this round, the newest figure's instant when it began
GUESSED = 12
SCALARS = 13


class Tracker(NamedTuple):
    """The mutable state of one router's belief. The arrays of a `LoadView` are these arrays."""

    own: MutableFloats  # [E]
    own_model: MutableFloats  # [M] over ready engines
    ended: MutableFloats  # [E] own requests that ended so far
    others: MutableFloats  # [E] snapshot less own at its instant; unknown = 0 with known = 0
    known: MutableInts  # [E] 1 = the snapshot covers this engine
    figure_at: MutableFloats  # [E] the instant at which the engine's figure was true
    load: MutableFloats  # [E]
    model_load: MutableFloats  # [M]
    gpu_load: MutableFloats  # [G]
    gpu_busy: MutableFloats  # [G]
    ready: MutableInts  # [E]
    ready_count: MutableInts  # [M]
    sent_engine: MutableFloats  # [E]
    sent_gpu: MutableFloats  # [G]
    last_engine: MutableInts  # [M]
    scalars: MutableFloats  # see the places above


def decayed_rate(rate: float, gap: float, horizon: float) -> float:
    """An exponentially averaged rate (per second) after ``gap`` seconds without an event."""
    return rate * math.exp(-gap / horizon)


def arrived(tracker: Tracker, now: float) -> None:
    """Count an arrival at this router."""
    scalars = tracker.scalars
    gap = now - scalars[RATE_AT]
    scalars[RATE_FAST] = decayed_rate(scalars[RATE_FAST], gap, FAST_SECONDS) + 1.0 / FAST_SECONDS
    scalars[RATE_SLOW] = decayed_rate(scalars[RATE_SLOW], gap, SLOW_SECONDS) + 1.0 / SLOW_SECONDS
    scalars[RATE_AT] = now


def add(catalogue: Catalogue, tracker: Tracker, engine: int, change: float) -> None:
    """Change the believed load of one engine, and the sums over its model and GPU with it."""
    before = tracker.load[engine]
    after = before + change
    after = max(after, 0.0)
    tracker.load[engine] = after
    gpu = catalogue.engine_gpu[engine]
    tracker.gpu_load[gpu] += after - before
    tracker.gpu_busy[gpu] += min(1.0, after) - min(1.0, before)
    if tracker.ready[engine]:
        tracker.model_load[catalogue.engine_model[engine]] += after - before


def sent(catalogue: Catalogue, tracker: Tracker, engine: int, now: float) -> None:
    """Count a request that this router sends to ``engine``."""
    model = catalogue.engine_model[engine]
    tracker.own[engine] += 1.0
    if tracker.ready[engine]:
        tracker.own_model[model] += 1.0
    tracker.scalars[TOTAL] += 1.0
    tracker.sent_engine[engine] = now
    tracker.sent_gpu[catalogue.engine_gpu[engine]] = now
    tracker.last_engine[model] = engine
    add(catalogue, tracker, engine, 1.0)


def finished(catalogue: Catalogue, tracker: Tracker, engine: int) -> None:
    """Count the end, however it came, of a request that this router had sent to ``engine``."""
    tracker.own[engine] -= 1.0
    tracker.ended[engine] += 1.0
    if tracker.ready[engine]:
        tracker.own_model[catalogue.engine_model[engine]] -= 1.0
    tracker.scalars[TOTAL] -= 1.0
    add(catalogue, tracker, engine, -1.0)


def set_ready(catalogue: Catalogue, tracker: Tracker, engine: int, ready: int) -> None:
    """An engine came or went. What it holds counts for its GPU as long as this router's requests are there."""
    if tracker.ready[engine] == ready:
        return
    model = catalogue.engine_model[engine]
    sign = 1 if ready else -1
    tracker.ready[engine] = ready
    tracker.ready_count[model] += sign
    tracker.own_model[model] += sign * tracker.own[engine]
    tracker.model_load[model] += sign * tracker.load[engine]


def snapshot(
    tracker: Tracker, counts: Floats, own_then: Floats, at: Floats, own_served: float, all_served: float
) -> None:
    """Take cluster figures: requests in flight per engine (below 0 = unknown), each true at its own instant ``at``.

    ``own_served`` of the ``all_served`` requests that ended between the newest figures and those before them were this
    router's; below 0 where that is not known. Then the requests in flight say which share of the traffic is its own.
    """
    scalars = tracker.scalars
    own = 0.0
    everybody = 0.0
    for engine in range(len(counts)):
        if counts[engine] < 0.0:
            tracker.known[engine] = 0
            tracker.others[engine] = 0.0
            continue
        gap = at[engine] - tracker.figure_at[engine]
        if gap > 0.0:
            weight = 1.0 - math.exp(-gap / TURNOVER_SECONDS)
            own += weight * own_then[engine]
            everybody += weight * max(counts[engine], own_then[engine])
        tracker.known[engine] = 1
        tracker.others[engine] = max(0.0, counts[engine] - own_then[engine])
        tracker.figure_at[engine] = at[engine]
        scalars[SNAPSHOT_AT] = max(scalars[SNAPSHOT_AT], at[engine])
    if all_served >= 0.0:
        own = own_served
        everybody = max(own_served, all_served)
    scalars[OWN_ROUND] += own
    scalars[ALL_ROUND] += everybody
    learn_share(tracker)
    scalars[REFRESHED_AT] = LONG_AGO


def learn_share(tracker: Tracker) -> None:
    """Take this router's share from what was counted, and begin a new round where this one is complete.

    Where nothing was known an incomplete round is better than nothing.
    """
    scalars = tracker.scalars
    own = scalars[OWN_ROUND]
    everybody = scalars[ALL_ROUND]
    own_before = scalars[OWN_COUNTED]
    all_before = scalars[ALL_COUNTED]
    complete = everybody >= ENOUGH_REQUESTS
    for engine in range(len(tracker.known)):
        if tracker.known[engine] and tracker.ready[engine] and tracker.figure_at[engine] <= scalars[ROUND_FROM]:
            complete = False
    if everybody <= 0.0 or (all_before > 0.0 and not complete):
        return
    if contradicted(own, everybody, own_before, all_before):
        own_before = 0.0
        all_before = 0.0
    share = (own + own_before) / (everybody + all_before)
    scalars[SHARE] = min(1.0, max(LEAST_SHARE, share))
    if complete:
        remembered = min(MEMORY_REQUESTS, everybody + all_before)
        scalars[OWN_COUNTED] = share * remembered
        scalars[ALL_COUNTED] = remembered
        scalars[OWN_ROUND] = 0.0
        scalars[ALL_ROUND] = 0.0
        scalars[ROUND_FROM] = scalars[SNAPSHOT_AT]


def contradicted(own: float, everybody: float, own_before: float, all_before: float) -> bool:
    """Whether two samples of the traffic have different shares of this router (a two-sided test of two proportions)."""
    if all_before <= 0.0:
        return False
    together = (own + own_before) / (everybody + all_before)
    variance = together * (1.0 - together) * (1.0 / everybody + 1.0 / all_before)
    difference = own / everybody - own_before / all_before
    return difference * difference > SURPRISE * SURPRISE * variance


def refresh(catalogue: Catalogue, tracker: Tracker, now: float) -> None:
    """Compute the believed loads anew where the last time is 20 ms ago or a snapshot came."""
    scalars = tracker.scalars
    if now - scalars[REFRESHED_AT] < REFRESH_SECONDS:
        return
    scalars[REFRESHED_AT] = now
    share = scalars[SHARE]
    unseen = 1.0 / share - 1.0
    old = 0.0
    ready = 0
    for gpu in range(len(tracker.gpu_load)):
        tracker.gpu_load[gpu] = 0.0
        tracker.gpu_busy[gpu] = 0.0
    for model in range(len(tracker.model_load)):
        mean_own = tracker.own_model[model] / tracker.ready_count[model] if tracker.ready_count[model] else 0.0
        total = 0.0
        for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
            age = now - tracker.figure_at[engine]
            fresh = 0.0
            if tracker.known[engine]:
                fresh = math.exp(-age / FRESH_SECONDS) if age > 0.0 else 1.0
            own = tracker.own[engine]
            usual = mean_own + share * (own - mean_own)
            load = own + fresh * tracker.others[engine] + (1.0 - fresh) * unseen * usual
            tracker.load[engine] = load
            gpu = catalogue.engine_gpu[engine]
            tracker.gpu_load[gpu] += load
            tracker.gpu_busy[gpu] += min(1.0, load)
            if tracker.ready[engine]:
                total += load
                old += 1.0 - fresh
                ready += 1
        tracker.model_load[model] = total
    scalars[GUESSED] = (1.0 - share) * old / ready if ready > 0 else 0.0


def view_of(tracker: Tracker, now: float) -> LoadView:
    """The view at ``now``; call `refresh` first. It shares the tracker's arrays: read it before anything changes."""
    scalars = tracker.scalars
    gap = now - scalars[RATE_AT]
    share = scalars[SHARE]
    return LoadView(
        tracker.load,
        tracker.model_load,
        tracker.gpu_load,
        tracker.gpu_busy,
        tracker.ready,
        tracker.ready_count,
        tracker.sent_engine,
        tracker.sent_gpu,
        tracker.last_engine,
        decayed_rate(scalars[RATE_FAST], gap, FAST_SECONDS) / share,
        decayed_rate(scalars[RATE_SLOW], gap, SLOW_SECONDS) / share,
        scalars[GUESSED],
    )
