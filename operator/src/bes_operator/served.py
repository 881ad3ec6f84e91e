"""What routers delivered: differences of their counters, told in steps of 1 % and rarely. Pure; the tally is a value.

Counters count from a router's start, and `boot_id` tells one start from the next. What a router had counted before this
operator first saw it is left out, unless it started inside the window.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from bes_api.router_status import RouterStatus
from bes_api.service_status import ServedStatus
from bes_operator.policy.seen import RouterSeen
from bes_operator.settings import OperatorSettings

STEP = Decimal("0.01")
FIRST_REQUESTS = 100
"""So many are enough to tell something where nothing has been told yet."""


@dataclass(frozen=True)
class Counted:
    """Sums over tasks. Clients' own faults, and clients that left, count nowhere."""

    requests: float = 0.0
    in_time: float = 0.0
    reward: float = 0.0
    peak_reward: float = 0.0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.requests + other.requests,
            self.in_time + other.in_time,
            self.reward + other.reward,
            self.peak_reward + other.peak_reward,
        )

    def since(self, before: "Counted") -> "Counted":
        """The difference; counters of one start only rise."""
        return Counted(
            max(0.0, self.requests - before.requests),
            max(0.0, self.in_time - before.in_time),
            max(0.0, self.reward - before.reward),
            max(0.0, self.peak_reward - before.peak_reward),
        )


@dataclass(frozen=True)
class Tally:
    """One window: what was counted since ``since``, and the last counters by boot id."""

    since: datetime
    total: Counted = Counted()
    last: Mapping[str, Counted] = field(default_factory=dict)


def counted(tally: Tally, routers: Iterable[RouterSeen]) -> Tally:
    """``tally`` with what routers say now. Routers that are gone keep what they had counted."""
    total, last = tally.total, {}
    for router in routers:
        if router.status is None:
            continue
        now = _counted(router.status)
        before = tally.last.get(router.status.boot_id)
        if before is None:
            before = Counted() if router.status.started_at >= tally.since.timestamp() else now
        total += now.since(before)
        last[router.status.boot_id] = now
    return replace(tally, total=total, last={**tally.last, **last})


def tell(
    tally: Tally, told: ServedStatus | None, settings: OperatorSettings, now: datetime
) -> tuple[Tally, ServedStatus | None]:
    """The tally to go on with, and what to tell, if anything.

    A window is over after `status_write_seconds`, the first one as soon as there is something to say. A figure that
    moved by less than `status_hysteresis` is not told anew, and a window without a request says nothing.
    """
    over = now - tally.since >= timedelta(seconds=settings.status_write_seconds)
    first = told is None and tally.total.requests >= FIRST_REQUESTS
    if not over and not first:
        return tally, None
    fresh = Tally(since=now, last=tally.last)
    figures = tally.total
    if figures.requests <= 0.0 or figures.peak_reward <= 0.0:
        return fresh, None
    performance, in_time = figures.reward / figures.peak_reward, figures.in_time / figures.requests
    if told is not None and not (
        _moved(told.performance, performance, settings) or _moved(told.in_time, in_time, settings)
    ):
        return fresh, None
    return fresh, ServedStatus(performance=_step(performance), in_time=_step(in_time), since=tally.since, until=now)


def _counted(status: RouterStatus) -> Counted:
    return sum(
        (
            Counted(float(task.in_time + task.late + task.failed), float(task.in_time), task.reward, task.peak_reward)
            for task in status.tasks
        ),
        start=Counted(),
    )


def _moved(told: Decimal | None, share: float, settings: OperatorSettings) -> bool:
    return told is None or (_step(share) != told and abs(share - float(told)) >= settings.status_hysteresis)


def _step(share: float) -> Decimal:
    return Decimal(share).quantize(STEP, rounding=ROUND_HALF_UP)
