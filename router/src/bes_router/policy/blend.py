"""The blended view: what one router believes of the load, from its own requests (exact) and a snapshot of any age.

Per engine: in flight = own + w * (snapshot - own at the snapshot's instant) + (1 - w) * (1/share - 1) * mean own at
that model, with w = exp(-age / 0.3 s). Own sends and finishes count at once; the others' part is computed anew at most
every 20 ms. Loaded plainly by the router and compiled by the simulator.
"""

import math
from typing import NamedTuple

from bes_router.policy.layout import Catalogue, Floats, LoadView, MutableFloats, MutableInts

FRESH_SECONDS = 0.3  # memory of a snapshot
REFRESH_SECONDS = 0.02
FAST_SECONDS = 0.5
SLOW_SECONDS = 2.0
SHARE_SECONDS = 10.0
LEAST_SHARE = 0.02
LONG_AGO = -1e9

# Places in `Tracker.scalars`
RATE_FAST, RATE_SLOW, RATE_AT, SHARE, SNAPSHOT_AT, REFRESHED_AT, TOTAL, OWN_MEAN, ALL_MEAN = range(9)
SCALARS = 9


class Tracker(NamedTuple):
    """The mutable state of one router's belief. The arrays of a `LoadView` are these arrays."""

    own: MutableFloats  # [E]
    own_model: MutableFloats  # [M] over ready engines
    others: MutableFloats  # [E] snapshot less own at its instant; unknown = 0 with known = 0
    known: MutableInts  # [E] 1 = the snapshot covers this engine
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


def snapshot(tracker: Tracker, counts: Floats, own_then: Floats, at: float) -> None:
    """Take cluster figures (requests in flight per engine, below 0 = unknown) that were true at instant ``at``.

    They also say which share of the traffic is this router's: its part of all requests in flight, averaged over 10 s.
    """
    own = 0.0
    everybody = 0.0
    for engine in range(len(counts)):
        if counts[engine] >= 0.0:
            tracker.known[engine] = 1
            tracker.others[engine] = max(0.0, counts[engine] - own_then[engine])
            own += own_then[engine]
            everybody += max(counts[engine], own_then[engine])
        else:
            tracker.known[engine] = 0
            tracker.others[engine] = 0.0
    scalars = tracker.scalars
    memory = math.exp(-max(0.0, at - scalars[SNAPSHOT_AT]) / SHARE_SECONDS)
    scalars[OWN_MEAN] = memory * scalars[OWN_MEAN] + (1.0 - memory) * own
    scalars[ALL_MEAN] = memory * scalars[ALL_MEAN] + (1.0 - memory) * everybody
    if scalars[ALL_MEAN] > 0.0:
        scalars[SHARE] = min(1.0, max(LEAST_SHARE, scalars[OWN_MEAN] / scalars[ALL_MEAN]))
    scalars[SNAPSHOT_AT] = at
    scalars[REFRESHED_AT] = LONG_AGO


def refresh(catalogue: Catalogue, tracker: Tracker, now: float) -> None:
    """Compute the believed loads anew where the last time is 20 ms ago or a snapshot came."""
    scalars = tracker.scalars
    if now - scalars[REFRESHED_AT] < REFRESH_SECONDS:
        return
    scalars[REFRESHED_AT] = now
    weight = math.exp(-max(0.0, now - scalars[SNAPSHOT_AT]) / FRESH_SECONDS)
    share = scalars[SHARE]
    unseen = 1.0 / share - 1.0
    for gpu in range(len(tracker.gpu_load)):
        tracker.gpu_load[gpu] = 0.0
        tracker.gpu_busy[gpu] = 0.0
    for model in range(len(tracker.model_load)):
        mean_own = tracker.own_model[model] / tracker.ready_count[model] if tracker.ready_count[model] else 0.0
        total = 0.0
        for engine in range(catalogue.model_first[model], catalogue.model_first[model + 1]):
            fresh = weight if tracker.known[engine] else 0.0
            load = tracker.own[engine] + fresh * tracker.others[engine] + (1.0 - fresh) * unseen * mean_own
            tracker.load[engine] = load
            gpu = catalogue.engine_gpu[engine]
            tracker.gpu_load[gpu] += load
            tracker.gpu_busy[gpu] += min(1.0, load)
            if tracker.ready[engine]:
                total += load
        tracker.model_load[model] = total


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
    )
