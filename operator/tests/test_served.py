from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from desired_samples import SETTINGS
from hypothesis import given
from hypothesis import strategies as st
from status_samples import NOW, router_status

from bes_api.service_status import ServedStatus
from bes_operator.policy.seen import RouterSeen
from bes_operator.served import Counted, Tally, counted, tell

WINDOW = timedelta(seconds=SETTINGS.status_write_seconds)
LONG_AGO = (NOW - timedelta(days=1)).timestamp()


def router(boot_id: str, in_time: int, late: int, started_at: float = LONG_AGO, fault: int = 0) -> RouterSeen:
    """Every answer in time earns 0.8 of a peak of 1."""
    task = {
        "name": "lambada",
        "in_time": in_time,
        "late": late,
        "failed": 0,
        "client_gone": fault,
        "client_fault": fault,
        "reward": 0.8 * in_time,
        "peak_reward": float(in_time + late),
        "decisions": {},
    }
    return RouterSeen(boot_id, router_status(boot_id=boot_id, started_at=started_at, tasks=[task]))


def told_after(*polls: list[RouterSeen], before: ServedStatus | None = None) -> ServedStatus | None:
    tally = Tally(NOW)
    for routers in polls:
        tally = counted(tally, routers)
    return tell(tally, before, SETTINGS, NOW + WINDOW)[1]


def test_what_was_counted_before_this_operator_looked_is_left_out() -> None:
    served = told_after([router("a", 1000, 1000)], [router("a", 1090, 1010)])
    assert served is not None
    assert (served.in_time, served.performance) == (Decimal("0.90"), Decimal("0.72"))
    assert (served.since, served.until) == (NOW, NOW + WINDOW)


def test_a_router_that_started_meanwhile_counts_from_its_start() -> None:
    started = (NOW + timedelta(seconds=10)).timestamp()
    served = told_after([], [router("b", 50, 50, started)])
    assert served is not None
    assert served.in_time == Decimal("0.50")


def test_a_router_that_restarted_or_is_gone_keeps_what_it_had_counted() -> None:
    started = (NOW + timedelta(seconds=10)).timestamp()
    served = told_after([router("a", 0, 0)], [router("a", 60, 0)], [router("b", 0, 40, started)], [])
    assert served is not None
    assert served.in_time == Decimal("0.60")


def test_a_router_that_was_out_of_reach_for_a_poll_is_counted_once() -> None:
    served = told_after([router("a", 0, 0)], [router("a", 50, 0)], [RouterSeen("a")], [router("a", 50, 50)])
    assert served is not None
    assert served.in_time == Decimal("0.50")


def test_clients_own_faults_count_nowhere() -> None:
    served = told_after([router("a", 0, 0)], [router("a", 75, 25, fault=900)])
    assert served is not None
    assert served.in_time == Decimal("0.75")


def test_nothing_is_told_of_a_window_without_requests() -> None:
    assert told_after([router("a", 10, 0)], [router("a", 10, 0)]) is None


def test_the_first_figures_come_before_the_window_is_over() -> None:
    tally = counted(counted(Tally(NOW), [router("a", 0, 0)]), [router("a", 90, 10)])
    soon = NOW + timedelta(seconds=30)
    fresh, served = tell(tally, None, SETTINGS, soon)
    assert served is not None
    assert fresh == replace(tally, since=soon, total=Counted())
    assert tell(tally, served, SETTINGS, soon) == (tally, None)


def test_a_figure_that_hardly_moved_is_not_told_again() -> None:
    before = ServedStatus(performance="0.72", in_time="0.90", since=NOW, until=NOW)
    assert told_after([router("a", 0, 0)], [router("a", 905, 95)], before=before) is None
    assert told_after([router("a", 0, 0)], [router("a", 920, 80)], before=before) is not None


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8))
def test_how_often_routers_are_asked_changes_no_figure(steps: list[tuple[int, int]]) -> None:
    sums, seen = (0, 0), [[router("a", 0, 0)]]
    for in_time, late in steps:
        sums = (sums[0] + in_time, sums[1] + late)
        seen.append([router("a", *sums)])
    assert told_after(*seen) == told_after(seen[0], seen[-1])
