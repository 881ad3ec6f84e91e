"""The blended view: own requests exactly, others as the snapshot says while it is fresh and by share when it is old."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_scenarios import opt_scenario, random_scenario

from bes_router.policy import blend
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import LoadView
from bes_router.policy.tracker import LoadTracker, new_tracker

CATALOGUE = catalogue_of(opt_scenario())
ENGINES = 12
NOTHING = [0.0] * ENGINES


def everywhere(count: float) -> list[float | None]:
    return [count] * ENGINES


def fields(view: LoadView) -> dict[str, object]:
    return {name: list(value) if isinstance(value, list) else value for name, value in view._asdict().items()}


def test_own_requests_count_at_once_and_exactly() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    for _ in range(3):
        tracker.sent(5, 1.0)
    tracker.sent(1, 1.0)
    tracker.finished(5)
    view = tracker.view(1.0)
    assert list(view.load) == [0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert list(view.model_load) == [1, 2, 0]
    assert list(view.gpu_load) == [0, 3, 0, 0]
    assert list(view.gpu_busy) == [0, 2, 0, 0]
    assert tracker.in_flight == 3
    assert view.last_engine[1] == 5
    assert view.sent_engine[5] == view.sent_gpu[1] == 1.0


def test_a_fresh_snapshot_is_believed_less_what_was_ones_own_then() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.5)
    tracker.sent(0, 0.0)
    own_then = list(tracker.own)
    tracker.sent(0, 0.0)
    tracker.snapshot([4.0] + [None] * 11, own_then, [0.0] * ENGINES)
    assert tracker.view(0.0).load[0] == pytest.approx(2 + 3)


def test_between_fresh_and_old_the_formula_of_the_blended_view_holds() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.sent(0, 0.0)
    tracker.sent(1, 0.0)
    tracker.snapshot(everywhere(5.0), list(tracker.own), [0.0] * ENGINES)
    share = 2 / 60
    assert tracker.share == pytest.approx(share)
    weight = math.exp(-0.2 / 0.3)
    view = tracker.view(0.2)
    mean_own = 2 / 4
    assert view.load[0] == pytest.approx(1 + weight * 4 + (1 - weight) * (1 / share - 1) * mean_own)
    assert view.load[3] == pytest.approx(weight * 5 + (1 - weight) * (1 / share - 1) * mean_own)
    assert view.load[4] == pytest.approx(weight * 5), "model 1 holds nothing of this router's"


def test_an_old_snapshot_gives_way_to_the_share_of_the_traffic() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.sent(0, 0.0)
    tracker.snapshot([4.0] + [0.0] * 11, list(tracker.own), [0.0] * ENGINES)
    assert tracker.share == pytest.approx(0.25)
    view = tracker.view(15.0)
    assert list(view.load[:4]) == pytest.approx([1.75, 0.75, 0.75, 0.75])
    assert view.model_load[0] == pytest.approx(4.0), "a quarter of the traffic is one, so all of it is four"


def test_an_unknown_figure_means_own_counts_and_share_alone() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    for _ in range(4):
        tracker.sent(0, 0.0)
    tracker.snapshot([None] * ENGINES, NOTHING, [0.0] * ENGINES)
    assert list(tracker.view(0.0).load) == [4.0] + [0.0] * 11
    halved = LoadTracker(CATALOGUE, 0.0, share=0.5)
    for _ in range(4):
        halved.sent(0, 0.0)
    halved.snapshot([None] * ENGINES, NOTHING, [0.0] * ENGINES)
    assert list(halved.view(0.0).load[:4]) == [5.0, 1.0, 1.0, 1.0]
    assert halved.share == 0.5, "nothing was learned of others"


@pytest.mark.parametrize("nonsense", [math.inf, math.nan, -3.0])
def test_a_figure_that_is_no_count_is_unknown(nonsense: float) -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.sent(0, 0.0)
    tracker.snapshot(everywhere(nonsense), NOTHING, [0.0] * ENGINES)
    assert list(tracker.view(0.0).load) == [1.0] + [0.0] * 11


def test_the_share_is_learned_online_and_follows_a_change() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    own = [1.0] * ENGINES
    for second in range(60):
        tracker.snapshot(everywhere(4.0), own, [float(second)] * ENGINES)
    assert tracker.share == pytest.approx(0.25, abs=0.01)
    for second in range(60, 120):
        tracker.snapshot(everywhere(2.0), own, [float(second)] * ENGINES)
    assert tracker.share == pytest.approx(0.5, abs=0.01)


def test_the_share_stays_between_a_fiftieth_and_one() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.snapshot(everywhere(500.0), NOTHING, [0.0] * ENGINES)
    assert tracker.share == blend.LEAST_SHARE
    for second in range(1, 100):
        tracker.snapshot(everywhere(0.0), [3.0] * ENGINES, [float(second)] * ENGINES)
    assert tracker.share == 1.0, "a figure below one's own requests is older than it says"


def test_rates_rise_to_the_arrival_rate_over_the_share_and_fall_again() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.5)
    for number in range(2000):
        tracker.arrived(number * 0.01)
    view = tracker.view(20.0)
    assert view.rate_fast == pytest.approx(200, rel=0.02)
    assert view.rate_slow == pytest.approx(200, rel=0.02)
    later = tracker.view(21.0)
    assert later.rate_fast == pytest.approx(view.rate_fast * math.exp(-(21.0 - 20.0) / 0.5))
    assert later.rate_slow == pytest.approx(view.rate_slow * math.exp(-(21.0 - 20.0) / 2.0))


def test_an_engine_that_is_not_ready_leaves_its_models_sums_and_comes_back_with_them() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    for engine in (0, 1, 1):
        tracker.sent(engine, 0.0)
    tracker.set_ready(1, False)
    tracker.set_ready(1, False)
    view = tracker.view(0.0)
    assert (view.ready_count[0], view.model_load[0], view.gpu_load[1]) == (3, 1, 2)
    tracker.finished(1)
    assert view.model_load[0] == 1
    tracker.set_ready(1, True)
    assert (view.ready_count[0], view.model_load[0], view.gpu_load[1]) == (4, 2, 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_sums_kept_step_by_step_are_those_computed_anew(seed: int) -> None:
    """Any order of sends, ends, deaths, returns and snapshots; then the same state refreshed from scratch."""
    random = Random(seed)
    catalogue = catalogue_of(random_scenario(random))
    engines = len(catalogue.engine_model)
    tracker = new_tracker(catalogue, 0.0, share=random.choice((1.0, 0.5)))
    sent: list[int] = []
    now = 0.0
    for _ in range(60):
        now += random.choice((0.0, 0.001))
        match random.randrange(6):
            case 0 | 1:
                engine = random.randrange(engines)
                sent.append(engine)
                blend.sent(catalogue, tracker, engine, now)
            case 2 | 3 if sent:
                blend.finished(catalogue, tracker, sent.pop(random.randrange(len(sent))))
            case 4:
                blend.set_ready(catalogue, tracker, random.randrange(engines), random.randrange(2))
            case 5 if not sent:
                figures = [random.choice((-1.0, 0.0, 7.0)) for _ in range(engines)]
                blend.snapshot(tracker, figures, list(tracker.own), [now] * engines, -1.0, -1.0)
                blend.refresh(catalogue, tracker, now)
    kept = {name: list(getattr(tracker, name)) for name in ("own", "own_model", "ready_count")}
    assert sum(kept["own"]) == len(sent) == tracker.scalars[blend.TOTAL]
    for model in range(len(catalogue.context)):
        of = range(catalogue.model_first[model], catalogue.model_first[model + 1])
        assert kept["ready_count"][model] == sum(tracker.ready[engine] for engine in of)
        assert kept["own_model"][model] == sum(tracker.own[engine] for engine in of if tracker.ready[engine])
        total = sum(tracker.load[engine] for engine in of if tracker.ready[engine])
        assert tracker.model_load[model] == pytest.approx(total, abs=1e-9)
    for gpu in range(len(catalogue.interference)):
        on = [engine for engine in range(engines) if catalogue.engine_gpu[engine] == gpu]
        assert tracker.gpu_load[gpu] == pytest.approx(sum(tracker.load[engine] for engine in on), abs=1e-9)
        busy = sum(min(1.0, tracker.load[engine]) for engine in on)
        assert tracker.gpu_busy[gpu] == pytest.approx(busy, abs=1e-9)


def test_looking_twice_changes_nothing() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.5)
    tracker.sent(3, 0.0)
    tracker.snapshot(everywhere(2.0), NOTHING, [0.0] * ENGINES)
    first = fields(tracker.view(0.5))
    assert fields(tracker.view(0.5)) == first
