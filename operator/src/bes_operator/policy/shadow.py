"""A candidate in shadow: what the routers say of it, and when that is enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bes_api.conditions import INSTANT_FORM
from bes_api.router_status import CandidateStatus
from bes_operator.policy.ledger import PolicyRecord
from bes_operator.policy.seen import RouterSeen

LEAST_DECISIONS = 1_000
LONGEST_SECONDS = 86_400.0
"""With hardly any traffic a shadow ends after a day, whatever was decided: a thousand decisions might never come."""
FRESH_SECONDS = 120.0
"""What a router said longer ago says nothing of now."""
DELIVERY_SECONDS = 300.0
"""Within it a folder reaches a router with any sensible kubelet. A candidate that does not fit until then never will:
before, the configuration it fits may be on its way."""
SLOW_DECISIONS, SLOW_SHARE = 100, 0.1
"""From so many decisions on, more than this share of slow ones is no bad luck."""


@dataclass(frozen=True)
class Progress:
    """Where a shadow stands."""

    decisions: int
    everywhere: bool
    """Every ready router has the candidate, and it can decide there."""
    failure: str | None = None
    done: bool = False
    message: str = ""
    wait_seconds: float | None = None


def progress(record: PolicyRecord, routers: Sequence[RouterSeen], seconds: float, now: datetime) -> Progress:
    """Where the shadow of ``record`` stands that shall last ``seconds``."""
    said = [_said(router, record.digest) for router in routers]
    known = [each for each in said if each is not None]
    decisions = sum(each.decisions for each in known)
    everywhere = bool(said) and len(known) == len(said) and all(each.problem is None for each in known)
    failure = _failure(known, (now - record.since).total_seconds())
    if failure is not None:
        return Progress(decisions, everywhere, failure=failure)
    if record.shadow_since is None:
        waiting = sum(each is None or each.problem is not None for each in said)
        message = f"on its way to {waiting} of {len(said)} routers" if said else "waits for a router"
        return Progress(decisions, everywhere, message=message, wait_seconds=15.0)
    spent = (now - record.shadow_since).total_seconds()
    if spent < seconds:
        return Progress(
            decisions, everywhere, message=until(record.shadow_since, seconds), wait_seconds=seconds - spent
        )
    enough = decisions >= LEAST_DECISIONS or decisions == 0 or spent >= LONGEST_SECONDS
    if everywhere and enough:
        return Progress(decisions, everywhere, done=True)
    message = f"until it has made {LEAST_DECISIONS:,} decisions" if everywhere else "a router has lost it"
    return Progress(decisions, everywhere, message=message, wait_seconds=30.0)


def until(since: datetime, seconds: float) -> str:
    """When a shadow ends that began at ``since``; no figure that moves, for it stands in the status."""
    return f"at least until {since + timedelta(seconds=seconds):{INSTANT_FORM}}"


def _said(router: RouterSeen, digest: str) -> CandidateStatus | None:
    """What a router says of the candidate; None: nothing of this one, or nothing lately."""
    if router.status is None or router.age_seconds > FRESH_SECONDS:
        return None
    candidate = router.status.candidate
    return candidate if candidate is not None and candidate.digest == digest else None


def _failure(said: Sequence[CandidateStatus], age_seconds: float) -> str | None:
    for each in said:
        if each.failures:
            return f"{each.failures} of {each.decisions} decisions failed: {each.last_failure or 'no reason given'}"
        if each.decisions >= SLOW_DECISIONS and each.slow > SLOW_SHARE * each.decisions:
            return f"{each.slow} of {each.decisions} decisions took longer than {each.slow_microseconds:g} us"
        if each.problem is not None and age_seconds > DELIVERY_SECONDS:
            return f"a router cannot use it: {each.problem}"
    return None
