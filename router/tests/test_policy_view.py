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
    here, elsewhere = share * 1 + (1 - share) * mean_own, (1 - share) * mean_own
    assert view.load[0] == pytest.approx(1 + weight * 4 + (1 - weight) * (1 / share - 1) * here)
    assert view.load[3] == pytest.approx(weight * 5 + (1 - weight) * (1 / share - 1) * elsewhere)
    assert view.load[4] == pytest.approx(weight * 5), "model 1 holds nothing of this router's"


def test_an_old_snapshot_gives_way_to_the_share_of_the_traffic() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.sent(0, 0.0)
    tracker.snapshot([4.0] + [0.0] * 11, list(tracker.own), [0.0] * ENGINES)
    assert tracker.share == pytest.approx(0.25)
    view = tracker.view(15.0)
    here, elsewhere = 3 * (0.25 + 0.75 / 4), 3 * 0.75 / 4
    assert list(view.load[:4]) == pytest.approx([1 + here, elsewhere, elsewhere, elsewhere])
    assert view.model_load[0] == pytest.approx(4.0), "a quarter of the traffic is one, so all of it is four"


def test_what_is_guessed_is_the_share_of_others_as_far_as_figures_are_old() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.25)
    assert tracker.view(0.0).guessed == 0.75, "no figure came yet"
    ages = [0.0] * 6 + [0.3] * 6
    tracker.snapshot(everywhere(0.0), NOTHING, [9.0 - age for age in ages])
    assert tracker.view(9.0).guessed == pytest.approx(0.75 * 0.5 * (1 - math.exp(-1)))
    for engine in range(6, ENGINES):
        tracker.set_ready(engine, False)
    assert tracker.view(9.1).guessed == pytest.approx(0.75 * (1 - math.exp(-0.1 / 0.3))), "who is not ready counts not"
    for engine in range(6):
        tracker.set_ready(engine, False)
    assert tracker.view(9.2).guessed == 0.0


def test_a_router_that_is_alone_guesses_nothing_however_old_its_figures() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    tracker.sent(0, 0.0)
    tracker.snapshot(everywhere(0.0), NOTHING, [0.0] * ENGINES, served=(50.0, 50.0))
    assert tracker.view(60.0).guessed == 0.0


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
    assert list(halved.view(0.0).load[:4]) == [4 + 0.5 * 4 + 0.5, 0.5, 0.5, 0.5]
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


SHIFT = 30.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_clock_that_is_half_a_minute_ahead_changes_nothing(seed: int) -> None:
    views = []
    for shift in (0.0, SHIFT):
        random, tracker, now = Random(seed), LoadTracker(CATALOGUE, shift, share=0.4), shift
        for _ in range(80):
            now += random.choice((0.0, 0.125, 2.0))
            tracker.arrived(now)
            tracker.sent(random.randrange(ENGINES), now)
            if random.random() < 0.3:
                ages = [random.choice((0.0, 0.25, 4.0)) for _ in range(ENGINES)]
                served = random.choice((None, (30.0, 80.0)))
                tracker.snapshot(everywhere(random.randrange(9)), tracker.own, [now - age for age in ages], served)
            view = fields(tracker.view(now))
        views.append((view["load"], view["gpu_busy"], view["rate_fast"], view["rate_slow"], tracker.share))
    for ahead, right in zip(views[1], views[0], strict=True):
        assert ahead == pytest.approx(right, rel=1e-9)


def test_each_engines_figure_has_its_own_age() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.5)
    ages = [0.1 * engine for engine in range(ENGINES)]
    tracker.snapshot(everywhere(6.0), NOTHING, [10.0 - age for age in ages], (50.0, 100.0))
    assert list(tracker.view(10.0).load) == pytest.approx([6 * math.exp(-age / 0.3) for age in ages])


def rounds(tracker: LoadTracker, own: float, everybody: float, first: float, count: int) -> list[float]:
    """The share after each of ``count`` scrapes of every engine, one engine after the other."""
    shares = []
    at = [first - 1.0 + 0.01 * engine for engine in range(ENGINES)]
    for _ in range(count):
        for engine in range(ENGINES):
            at[engine] += 1.0
            tracker.snapshot(everywhere(3.0), NOTHING, at, (own / ENGINES, everybody / ENGINES))
        shares.append(tracker.share)
    return shares


def test_a_share_that_jumps_is_found_within_two_scrapes() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.25)
    assert rounds(tracker, 70.0, 280.0, 0.0, 20)[-1] == pytest.approx(0.25)
    assert rounds(tracker, 140.0, 200.0, 100.0, 2)[-1] == pytest.approx(0.7, abs=0.01)


def test_a_difference_within_the_noise_is_averaged_and_forgets_nothing() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.25)
    before = rounds(tracker, 70.0, 280.0, 0.0, 20)[-1]
    after = rounds(tracker, 80.0, 280.0, 100.0, 2)[-1]
    assert before < after < before + 0.7 * (80 / 280 - before)


def test_one_engine_alone_says_nothing_of_the_share() -> None:
    """Routers prefer some engines for a while: a round ends when every engine was heard."""
    tracker = LoadTracker(CATALOGUE, 0.0, share=0.25)
    rounds(tracker, 75.0, 300.0, 0.0, 3)
    for scrape in range(1, 20):
        at = [50.0 + scrape] + [2.0 + 0.01 * engine for engine in range(1, ENGINES)]
        tracker.snapshot(everywhere(3.0), NOTHING, at, (190.0, 200.0))
    assert tracker.share == pytest.approx(0.25, abs=0.01)


def test_before_anything_is_known_the_first_figures_count_at_once() -> None:
    tracker = LoadTracker(CATALOGUE, 0.0)
    assert tracker.share == 1.0
    tracker.snapshot([8.0] + [None] * 11, [2.0] + [0.0] * 11, [1.0] * ENGINES)
    assert tracker.share == pytest.approx(0.25)


COUNTS = st.one_of(st.none(), st.floats(0, 1e6), st.sampled_from([-1.0, math.nan, math.inf]))
SERVED = st.one_of(st.none(), st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(COUNTS, min_size=12, max_size=12), SERVED, st.integers(0, 11)), max_size=12))
def test_whatever_figures_say_own_counts_stay_exact_and_nothing_is_negative(figures: list[tuple]) -> None:  # type: ignore[type-arg]  # as drawn above
    tracker, sent = LoadTracker(CATALOGUE, 0.0), [0] * ENGINES
    for number, (counts, served, engine) in enumerate(figures):
        now = float(number)
        tracker.sent(engine, now)
        sent[engine] += 1
        ages = [((number * each) % 5) * 0.2 for each in range(ENGINES)]
        tracker.snapshot(counts, list(tracker.own), [now - age for age in ages], served)
        view = tracker.view(now)
        assert list(tracker.own) == sent
        assert blend.LEAST_SHARE <= tracker.share <= 1.0
        assert all(math.isfinite(load) and load >= own for load, own in zip(view.load, sent, strict=True))
    for engine, count in enumerate(sent):
        for _ in range(count):
            tracker.finished(engine)
    assert list(tracker.finished_own) == sent
    assert not any(tracker.own)


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
