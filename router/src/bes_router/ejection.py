"""Which backends are kept out for a while because of how they answered: those that fail, hang, or are far slower.

A state machine without I/O or clock: it is told what was sent and how it ended, and says who may be chosen. An ejected
backend comes back on trial (one good probe, then a few requests) after a time that doubles with every relapse.
The idea is Envoy's outlier detection; latency is judged relative to its prediction, so that long requests, busy engines
and busy neighbours are no reason.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

FAILURES_IN_ROW = 5
FAILURES = 8
FAILED_SHARE = 0.5
"""So many failures, and this share of what ended within about the last `MEMORY_SECONDS`."""
MEMORY_SECONDS = 10.0
SAMPLE_SECONDS = 0.1
"""At most one request in this time is timed per backend, but every one of a trial."""
WINDOW = 12
ENOUGH = 6
"""Timed requests that a median needs."""
SLOW_FACTOR = 4.0
"""Far slower: the median of latency over prediction is this many times the siblings' median (and above 1)."""
HANGING = 3
"""Timed requests without any answer since, each of them for `SLOW_FACTOR` times what was to be expected."""
PATIENCE_SECONDS = 1.0
TRIAL_REQUESTS = 3
FIRST_SECONDS = 5.0
LONGEST_SECONDS = 300.0
FORGIVEN_AFTER = 4.0
"""A backend that behaved for this many times its last ejection begins anew with `FIRST_SECONDS`."""
LONG_AGO = -math.inf


class Cause(StrEnum):
    """Why a backend is kept out."""

    FAILING = "failing"
    HANGING = "hanging"
    SLOW = "slow"
    RELAPSE = "relapse"


class Phase(StrEnum):
    """Where a backend stands."""

    SERVING = "serving"
    EJECTED = "ejected"
    TRIAL = "trial"


class Sample(NamedTuple):
    """One timed request."""

    sent: float
    predicted: float
    epoch: int


class Event(NamedTuple):
    """A change worth a log line and a count. ``seconds``: how long it is out; ``cause`` is None when it returned."""

    standing: "Standing"
    phase: Phase
    cause: Cause | None = None
    seconds: float = 0.0


class Standing:
    """One backend's record. ``good`` counts answers; whoever sees one adds to it, nothing else is needed then."""

    __slots__ = (
        "_bad",
        "_bad_at",
        "_fine",
        "_good_then",
        "_in_row",
        "_open",
        "_open_good",
        "_ratios",
        "_returned_at",
        "_seconds",
        "cause",
        "epoch",
        "good",
        "label",
        "next_sample",
        "passed",
        "phase",
        "trial_left",
        "until",
    )

    def __init__(self, label: str) -> None:
        self.label = label
        self.phase = Phase.SERVING
        self.cause: Cause | None = None
        self.epoch = 0
        self.good = 0
        self.next_sample = LONG_AGO
        self.until = 0.0
        self.trial_left = 0
        self.passed = 0
        self._seconds = 0.0
        self._returned_at = LONG_AGO
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._ratios: deque[float] = deque(maxlen=WINDOW)
        self._bad = self._fine = 0.0
        self._bad_at = LONG_AGO
        self._in_row = 0
        self._good_then = self.good
        self._open: list[Sample] = []  # the first few timed since the last answer
        self._open_good = self.good

    @property
    def allowed(self) -> bool:
        """Whether it may be chosen: not while it is out, nor while a trial's requests are all under way."""
        return self.phase is Phase.SERVING or (self.phase is Phase.TRIAL and self.trial_left > 0)

    def adopt(self, other: "Standing") -> None:
        """Go on from another record of the same backend."""
        for name in set(self.__slots__) - {"label"}:
            setattr(self, name, getattr(other, name))
        self._ratios = self._ratios.copy()
        self._open = []  # their answers are told to the other record
        if self.phase is Phase.TRIAL:  # and so are those of its requests
            self.try_out()

    def pace(self) -> float | None:
        """The median of latency over prediction, None while too little is known."""
        return median(self._ratios) if len(self._ratios) >= ENOUGH else None

    def timed(self, predicted: float, now: float) -> Sample:
        """Note a request that is timed."""
        if self.phase is Phase.TRIAL:
            self.trial_left -= 1
        else:
            self.next_sample = now + SAMPLE_SECONDS
        if self.good != self._open_good:
            self._open_good = self.good
            self._open.clear()
        sample = Sample(now, predicted, self.epoch)
        if len(self._open) < HANGING:
            self._open.append(sample)
        return sample

    def forget(self, sample: Sample) -> None:
        """A timed request is nobody's any more."""
        if sample in self._open:
            self._open.remove(sample)

    def hangs(self, reference: float | None, now: float) -> bool:
        """Whether nothing has come back for far longer than expected; ``reference``: the pace to be expected."""
        enough = HANGING
        if self.phase is Phase.TRIAL:
            enough, reference = 1, reference or 1.0
        if reference is None or self.good != self._open_good or len(self._open) < enough:
            return False
        slowest = SLOW_FACTOR * max(1.0, reference)
        return all(now - each.sent > max(PATIENCE_SECONDS, slowest * each.predicted) for each in self._open)

    def took(self, sample: Sample, now: float) -> float:
        """Keep how long a timed request took, relative to its prediction."""
        ratio = (now - sample.sent) / max(sample.predicted, 1e-3)
        self._ratios.append(ratio)
        return ratio

    def failing(self, now: float) -> bool:
        """Count a failure; whether there have been too many."""
        fine = self.good - self._good_then
        self._good_then = self.good
        fade = math.exp((self._bad_at - now) / MEMORY_SECONDS)
        self._bad_at = now
        self._bad = self._bad * fade + 1.0
        self._fine = self._fine * fade + fine
        self._in_row = 1 if fine else self._in_row + 1
        if self._in_row >= FAILURES_IN_ROW:
            return True
        return self._bad >= FAILURES - 0.5 and self._bad >= FAILED_SHARE * (self._bad + self._fine)

    def eject(self, cause: Cause, now: float) -> Event:
        """Keep it out: `FIRST_SECONDS`, and twice the last time for one that relapses."""
        behaved = now - self._returned_at > FORGIVEN_AFTER * self._seconds and self.phase is Phase.SERVING
        self._seconds = FIRST_SECONDS if behaved or not self._seconds else min(LONGEST_SECONDS, 2.0 * self._seconds)
        self.phase, self.cause = Phase.EJECTED, cause
        self.until = now + self._seconds
        self.epoch += 1
        self._begin_anew()
        return Event(self, Phase.EJECTED, cause, self._seconds)

    def try_out(self) -> Event:
        """Let a few requests through, each of them timed."""
        self.phase = Phase.TRIAL
        self.epoch += 1
        self.trial_left, self.passed = TRIAL_REQUESTS, 0
        self.next_sample = LONG_AGO
        self._begin_anew()
        return Event(self, Phase.TRIAL, self.cause)

    def take_back(self, now: float) -> Event:
        """It may be chosen like any other."""
        self.phase, self.cause = Phase.SERVING, None
        self._returned_at = now
        return Event(self, Phase.SERVING)


class Ejection:
    """Judges the backends of a service. ``ready`` says whether a backend could be chosen just now, if it is not out.

    The last of a service stays whatever it does, and the last of a model however slow it is or long it hangs: another
    model is no stand-in where a client or a policy wants this one, and load figures steer the others away meanwhile.
    """

    def __init__(self, models: Iterable[Sequence[Standing]], ready: Callable[[Standing], bool]) -> None:
        self._siblings = {standing: group for group in models for standing in group}
        self._ready = ready

    def enter(self, standing: Standing, siblings: Sequence[Standing]) -> None:
        """Judge another backend from now on; ``siblings`` are all of its model, and it is among them."""
        self._siblings[standing] = siblings

    def leave(self, standing: Standing) -> None:
        """Judge a backend no more."""
        del self._siblings[standing]

    def answered(self, standing: Standing, sample: Sample, now: float) -> Event | None:
        """A timed request was answered; `Standing.good` has it already."""
        if standing.phase is Phase.EJECTED or sample.epoch != standing.epoch:
            return None
        standing.took(sample, now)
        if standing.phase is Phase.TRIAL:
            standing.passed += 1
            return self._verdict(standing, now) if standing.passed >= TRIAL_REQUESTS else None
        pace = standing.pace()
        if pace is not None and self._is_slow(standing, pace) and self._may_lose(standing):
            return standing.eject(Cause.SLOW, now)
        return None

    def failed(self, standing: Standing, sample: Sample | None, now: float) -> Event | None:
        """A request failed by the backend's fault."""
        if standing.phase is Phase.TRIAL:
            on_trial = sample is not None and sample.epoch == standing.epoch
            return standing.eject(Cause.RELAPSE, now) if on_trial and not self._is_last(standing) else None
        if standing.phase is Phase.SERVING and standing.failing(now) and not self._is_last(standing):
            return standing.eject(Cause.FAILING, now)
        return None

    def withdrawn(self, standing: Standing, sample: Sample, now: float, *, missed: bool = False) -> Event | None:
        """A timed request ended for another reason. ``missed``: it was aborted, having lasted at least until now."""
        if standing.phase is Phase.EJECTED or sample.epoch != standing.epoch:
            return None
        if not missed:
            standing.forget(sample)
        if standing.phase is Phase.TRIAL:
            if missed and now - sample.sent > 2.0 * sample.predicted and not self._is_models_last(standing):
                return standing.eject(Cause.RELAPSE, now)
            standing.trial_left += 1
        elif missed:
            standing.took(sample, now)
        return None

    def tick(self, now: float, probed: Callable[[Standing], float]) -> list[Event]:
        """Notice who hangs, and try those out whose time is over. ``probed``: the instant of the last good probe."""
        return list(self._tick(now, probed))

    def _tick(self, now: float, probed: Callable[[Standing], float]) -> Iterator[Event]:
        for standing in self._siblings:
            if standing.phase is Phase.EJECTED:
                if now >= standing.until and probed(standing) >= standing.until:
                    yield standing.try_out()
            elif standing.hangs(self._reference(standing), now):
                on_trial = standing.phase is Phase.TRIAL
                if not self._is_models_last(standing):
                    yield standing.eject(Cause.RELAPSE if on_trial else Cause.HANGING, now)
                elif on_trial:  # its requests are all under way, or soon will be: left alone, nothing would follow them
                    yield standing.try_out()

    def relent(self) -> list[Event]:
        """Nothing else could serve: whoever is out is tried out at once."""
        return [standing.try_out() for standing in self._siblings if not standing.allowed]

    def _verdict(self, standing: Standing, now: float) -> Event:
        pace = median(standing._ratios)
        if self._is_slow(standing, pace) and not self._is_models_last(standing):
            return standing.eject(Cause.RELAPSE, now)
        return standing.take_back(now)

    def _paces(self, standing: Standing) -> list[float]:
        group = self._siblings[standing]
        return [pace for other in group if other is not standing and (pace := other.pace()) is not None]

    def _is_slow(self, standing: Standing, pace: float) -> bool:
        others = self._paces(standing)
        return bool(others) and pace > 1.0 and pace > SLOW_FACTOR * median(others)

    def _reference(self, standing: Standing) -> float | None:
        """The slowest pace that was seen of this backend and its siblings; a wrong profile is slow everywhere."""
        own = standing.pace()
        return max(self._paces(standing) + ([] if own is None else [own]), default=None)

    def _is_last(self, standing: Standing) -> bool:
        """Nothing would be left to choose."""
        return self._stands_alone(standing, self._siblings)

    def _is_models_last(self, standing: Standing) -> bool:
        """Nothing of its model would be left to choose."""
        return self._stands_alone(standing, self._siblings[standing])

    def _stands_alone(self, standing: Standing, among: Iterable[Standing]) -> bool:
        return not any(other.allowed and self._ready(other) for other in among if other is not standing)

    def _may_lose(self, standing: Standing) -> bool:
        """At most half of a model's backends are out for slowness, and never its last."""
        group = self._siblings[standing]
        out = sum(other.phase is not Phase.SERVING and other.cause is not Cause.FAILING for other in group)
        return out < len(group) // 2 and not self._is_models_last(standing)
