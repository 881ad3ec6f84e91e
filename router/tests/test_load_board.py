"""Own counts of an instant, another machine's clock, readings and what was finished between them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_rig import Seen, target

from bes_router.load.board import Board, Reading
from bes_router.load.clock import RemoteClock
from bes_router.load.history import OwnHistory


def history_of(*records: tuple[float, float], span: float = 10.0, step: float = 1.0) -> OwnHistory:
    history = OwnHistory(1, span, step)
    for at, own in records:
        history.record(at, [own], [10.0 * own])
    return history


def own_at(history: OwnHistory, instant: float) -> tuple[float, float] | None:
    found = history.at(instant)
    return None if found is None else (float(found[0][0]), float(found[1][0]))


def test_own_counts_are_interpolated_between_two_records() -> None:
    history = history_of((100.0, 0.0), (101.0, 4.0), (103.0, 2.0))
    assert own_at(history, 101.0) == (4.0, 40.0)
    assert own_at(history, 100.25) == (1.0, 10.0)
    assert own_at(history, 102.0) == (3.0, 30.0)
    assert own_at(history, 999.0) == (2.0, 20.0), "nothing is known to have changed"


def test_a_router_that_had_done_nothing_yet_had_done_nothing_before() -> None:
    assert own_at(history_of((100.0, 0.0), (101.0, 4.0)), 50.0) == (0.0, 0.0)
    assert own_at(OwnHistory(1, 10.0), 50.0) == (0.0, 0.0)
    assert own_at(history_of((100.0, 3.0), (101.0, 4.0)), 50.0) is None, "it came into a running router"
    assert own_at(history_of((100.0, 3.0)), 100.0) == (3.0, 30.0)


def test_what_is_longer_ago_than_the_span_is_forgotten_and_what_is_within_is_not() -> None:
    history = history_of(*((float(second), float(second)) for second in range(100)))
    assert own_at(history, 80.0) is None
    assert own_at(history, 89.5) == (89.5, 895.0)


@given(st.lists(st.floats(0.01, 0.2), min_size=2, max_size=60), st.floats(0.0, 1.0))
def test_any_instant_within_the_records_lies_between_its_neighbours(gaps: list[float], share: float) -> None:
    history, now = OwnHistory(1, 2.0), 1000.0
    records = []
    for number, gap in enumerate(gaps):
        now += gap
        records.append((now, float(number)))
        history.record(now, [float(number)], [0.0])
    kept = records[-int(2.0 / 0.05) :]
    instant = kept[0][0] + share * (kept[-1][0] - kept[0][0])
    found = own_at(history, instant)
    assert found is not None
    before = max(number for at, number in kept if at <= instant)
    assert before <= found[0] <= before + 1.0


@given(
    offset=st.floats(-30.0, 30.0),
    exchanges=st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0.0, 0.2), st.floats(0.0, 1.0)), min_size=1),
)
def test_clocks_half_a_minute_apart_do_not_matter(offset: float, exchanges: list[tuple[float, float, float]]) -> None:
    clock, now, quickest = RemoteClock(), 5000.0, math.inf
    epoch = 1.7e9 - 5000.0
    for pause, lasted, when in exchanges:
        now += pause
        theirs = round(epoch + offset + now + when * lasted, 3)
        clock.observe(now, now + lasted, theirs)
        now += lasted
        quickest = min(quickest, lasted)
        assert clock.ours(epoch + offset + now) == pytest.approx(now, abs=quickest / 2 + 0.002)


def test_a_clock_that_is_set_is_noticed_and_a_quick_exchange_is_not_kept_for_ever() -> None:
    clock = RemoteClock()
    with pytest.raises(LookupError):
        clock.ours(1.0)
    clock.observe(10.0, 10.001, 1010.0)
    clock.observe(11.0, 11.1, 1016.05)
    assert clock.ours(1020.0) == pytest.approx(15.0, abs=0.051), "it was set forward by five seconds"
    clock.observe(20.0, 20.5, 1025.3)
    assert clock.ours(1020.0) == pytest.approx(15.0, abs=0.051), "a slower exchange says less"
    clock.observe(80.0, 80.5, 1085.4)
    assert clock.ours(1085.25) == pytest.approx(80.1, abs=0.01), "but clocks drift: after a minute it counts"


def reading(at: float, finished: float | None = None, own_finished: float = 0.0) -> Reading:
    return Reading(at, 5.0, 2.0, finished, own_finished)


def test_each_engine_keeps_its_own_instant_and_an_old_figure_is_unknown() -> None:
    seen = Seen(3)
    board = Board([target(0), target(2)], 3, 3.0, seen)
    board.take(0, reading(10.0))
    board.take(2, reading(12.0))
    board.hand_on(12.5)
    board.hand_on(13.5)
    board.hand_on(15.5)
    assert [taken.counts for taken in seen.taken] == [[5.0, None, 5.0], [None, None, 5.0], [None, None, None]]
    assert (seen.taken[0].at[0], seen.taken[0].at[2]) == (10.0, 12.0)
    assert seen.taken[0].own == [2.0, 0.0, 2.0]
    assert (board.coverage(12.5), board.coverage(13.5), board.newest_at) == (1.0, 0.5, 12.0)


def test_requests_finished_between_two_readings_are_added_up_and_handed_on_once() -> None:
    seen = Seen(2)
    board = Board([target(0), target(1)], 2, 60.0, seen)
    board.take(0, reading(10.0, 100.0, 40.0))
    board.take(1, reading(10.5, 50.0, 20.0))
    board.hand_on(11.0)
    board.take(0, reading(11.0, 110.0, 44.0))
    board.take(1, reading(11.5, 56.0, 23.0))
    board.hand_on(12.0)
    board.hand_on(12.2)
    assert [taken.served for taken in seen.taken] == [(0.0, 0.0), (7.0, 16.0), (0.0, 0.0)]


def test_an_engine_that_was_started_anew_or_says_nothing_has_no_share_in_it() -> None:
    seen = Seen(1)
    board = Board([target(0)], 1, 60.0, seen)
    board.take(0, reading(9.0))
    board.hand_on(9.5)
    board.take(0, reading(10.0, 100.0, 40.0))
    board.take(0, reading(11.0, 3.0, 45.0))
    board.take(0, reading(12.0, 8.0, 47.0))
    board.take(0, reading(12.0, 80.0, 47.0))
    board.hand_on(12.5)
    assert [taken.served for taken in seen.taken] == [None, (2.0, 5.0)]
    board.take(0, None)
    board.hand_on(13.0)
    assert seen.taken[-1].counts == [None]
