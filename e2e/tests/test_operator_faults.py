"""The real operator behind a faulty API server: a sample of what `make test-faults` plays as a whole."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from control_plane import api_server  # noqa: F401 - a fixture

from bes_lab.cluster.control_plane import ControlPlane
from bes_lab.cluster.faults.cases import Case, Making, Verdict, play, play_from_start, undisturbed
from bes_lab.cluster.faults.outage import outage
from bes_lab.cluster.faults.stage import Stage, staged
from bes_lab.cluster.faults.watches import WATCH_CASES, play_watches
from bes_lab.cluster.struck_calls import Fault

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

T = TypeVar("T")
IDLE_LISTINGS = 3
LANES = 3
MOST_TIMES = 3


def on_stage(plane: ControlPlane, folder: Path, play_it: Callable[[Stage], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with staged(plane, folder) as stage:
            return await play_it(stage)

    return asyncio.run(whole())


@pytest.fixture(scope="module")
def making(api_server: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Making:  # noqa: F811 - imported
    return on_stage(api_server, tmp_path_factory.mktemp("undisturbed"), lambda stage: undisturbed(stage, IDLE_LISTINGS))


def wrong(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.problems or not verdict.struck]


def test_passes_without_a_change_write_nothing(making: Making) -> None:
    assert making.idle_writes == 0
    assert len(making.outcome.objects) > 20


def test_a_call_that_fails_in_any_way_changes_nothing_in_the_end(
    api_server: ControlPlane,  # noqa: F811 - the fixture that is imported
    making: Making,
    tmp_path: Path,
) -> None:
    spread = len(making.service_calls) // len(Fault)
    cases = [Case(fault, 1 + spread * number + number) for number, fault in enumerate(Fault)]
    verdicts = on_stage(api_server, tmp_path, lambda stage: play(stage, making, iter(cases), LANES, print))
    assert wrong(verdicts) == []
    assert max(verdict.calls for verdict in verdicts) <= MOST_TIMES * len(making.service_calls)


def test_an_operator_that_is_killed_or_starts_badly_changes_nothing_in_the_end(
    api_server: ControlPlane,  # noqa: F811 - the fixture that is imported
    making: Making,
    tmp_path: Path,
) -> None:
    patches = [number for number, call in enumerate(making.service_calls, 1) if call.writes]
    cases = [
        *(Case(Fault.LOST, nth, killed=True) for nth in (patches[1], patches[-2])),
        *(Case(fault, nth, starting=True) for nth, fault in ((4, Fault.BROKEN), (20, Fault.CUT), (40, Fault.BUSY))),
    ]
    verdicts = on_stage(api_server, tmp_path, lambda stage: play_from_start(stage, making, iter(cases), LANES, print))
    assert wrong(verdicts) == []


def test_a_child_deleted_behind_a_disturbed_watch_comes_back(
    api_server: ControlPlane,  # noqa: F811 - the fixture that is imported
    making: Making,
    tmp_path: Path,
) -> None:
    verdicts = on_stage(
        api_server, tmp_path, lambda stage: play_watches(stage, making.outcome, iter(WATCH_CASES[::8]), print)
    )
    assert len(verdicts) >= 5
    assert wrong(verdicts) == []


def test_an_api_server_that_answers_500_to_everything_for_a_while_is_survived(
    api_server: ControlPlane,  # noqa: F811 - the fixture that is imported
    tmp_path: Path,
) -> None:
    found = on_stage(api_server, tmp_path, lambda stage: outage(stage, 10.0))
    assert found.asked > 0
    assert (found.replaced, found.trained, found.ended) == (0, 0, False)
    assert found.recovered_seconds < 60
