"""Every call of the making of one service disturbed in turn, in every way; and the operator killed after each."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bes_lab.cluster.faults.stage import Operator, Outcome, Stage
from bes_lab.cluster.struck_calls import Call, Fault, Trap

STRIKE_SECONDS = 60.0
Say = Callable[[str], None]
C = TypeVar("C")


@dataclass(frozen=True)
class Making:
    """The making of one service that nothing disturbed."""

    outcome: Outcome
    service_calls: tuple[Call, ...]
    """About its objects, in order, until nothing was left to do."""
    start_calls: tuple[Call, ...]
    """Lists, watches, discovery and the Lease, until the last watch had begun."""
    idle_listings: int
    """So often everything was then listed, and passed over once each time."""
    idle_writes: int
    """While that went on; Leases and Events apart."""


@dataclass(frozen=True)
class Case:
    """One disturbance: the ``nth`` call about the service (or, ``starting``, of the others)."""

    fault: Fault
    nth: int
    starting: bool = False
    killed: bool = False
    """The operator is killed when the call has been applied."""

    def __str__(self) -> str:
        how = "killed after" if self.killed else self.fault.value
        return f"{how} {'start' if self.starting else 'service'} call {self.nth}"

    def trap(self) -> Trap:
        """For a proxy."""
        return Trap(self.fault, (lambda call: not call.about_service) if self.starting else _about_service, self.nth)


@dataclass(frozen=True)
class Verdict:
    """What became of one case."""

    case: str
    struck: str
    """The call that was disturbed; "": it never came."""
    problems: tuple[str, ...]
    """Why it did not come to the same; none: it did."""
    calls: int
    """About the service's objects, until nothing was left to do."""
    seconds: float


async def undisturbed(stage: Stage, idle_listings: int) -> Making:
    """See Making. Raises ClusterError."""
    async with stage.operator() as operator:
        await stage.ask.apply_service(operator.namespace)
        operator.start()
        outcome = await stage.outcome(operator)
        calls, writes = tuple(operator.proxy.calls), operator.proxy.writes()
        last = max(number for number, call in enumerate(calls) if call.verb == "watch")
        started = tuple(call for call in calls[: last + 1] if not call.about_service)
        await operator.listed(idle_listings)
        idle = operator.proxy.writes() - writes
    return Making(outcome, tuple(filter(_about_service, calls)), started, idle_listings, idle)


def cases_of(making: Making) -> tuple[list[Case], list[Case]]:
    """For operators that run already, and for ones that are started for the case."""
    about, starting = len(making.service_calls), len(making.start_calls)
    running = [Case(fault, nth) for nth in range(1, about + 1) for fault in Fault]
    started = [Case(fault, nth, starting=True) for nth in range(1, starting + 1) for fault in Fault]
    killed = [Case(Fault.LOST, nth, killed=True) for nth in range(1, about + 1)]
    killed += [Case(Fault.LOST, nth, starting=True, killed=True) for nth in range(1, starting + 1)]
    return running, [*killed, *started]


def in_time(cases: Sequence[C], stop_at: float | None) -> Iterator[C]:
    """One after the other, until the monotonic clock shows ``stop_at``; None: all."""
    for case in cases:
        if stop_at is not None and time.monotonic() >= stop_at:
            return
        yield case


async def play(stage: Stage, making: Making, waiting: Iterator[Case], lanes: int, say: Say) -> list[Verdict]:
    """Cases for operators that run already: each lane has one, which makes the service again and again."""

    async def lane() -> list[Verdict]:
        found = []
        async with stage.operator() as operator:
            operator.start()
            await operator.listed(1)
            for case in waiting:
                verdict = await _one(stage, making, operator, case)
                found.append(_said(verdict, say))
                if not operator.runs():
                    operator.start()
        return found

    return _joined(await asyncio.gather(*(lane() for _ in range(lanes))))


async def play_from_start(stage: Stage, making: Making, waiting: Iterator[Case], lanes: int, say: Say) -> list[Verdict]:
    """Cases for which an operator is started; killed ones get a successor."""

    async def lane() -> list[Verdict]:
        found = []
        for case in waiting:
            async with stage.operator() as operator:
                verdict = await _one(stage, making, operator, case)
            found.append(_said(verdict, say))
        return found

    return _joined(await asyncio.gather(*(lane() for _ in range(lanes))))


async def _one(stage: Stage, making: Making, operator: Operator, case: Case) -> Verdict:
    began = time.monotonic()
    operator.proxy.clear()
    trap = operator.proxy.set(case.trap())
    await stage.ask.apply_service(operator.namespace)
    if not operator.runs():
        operator.start()
    if case.killed:
        await _struck(trap, operator)
        operator.kill()
        operator.start()
    problems = await stage.settled(operator, making.outcome)
    struck = str(trap.struck or "")
    calls, seconds = operator.proxy.about_services(), time.monotonic() - began
    problems += await stage.cleared(operator)
    return Verdict(str(case), struck, problems, calls, seconds)


async def _struck(trap: Trap, operator: Operator) -> None:
    limit = time.monotonic() + STRIKE_SECONDS
    while not trap.done.is_set() and operator.runs() and time.monotonic() < limit:
        await asyncio.sleep(0.02)


def _about_service(call: Call) -> bool:
    return call.about_service


def _joined(found: Sequence[list[Verdict]]) -> list[Verdict]:
    return [verdict for lane in found for verdict in lane]


def _said(verdict: Verdict, say: Say) -> Verdict:
    how = "; ".join(verdict.problems) or "well"
    say(f"{verdict.case} ({verdict.struck or 'never came'}): {verdict.calls} calls, {verdict.seconds:.1f} s: {how}")
    return verdict
