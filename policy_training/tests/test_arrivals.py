"""Laws of the generators, each with a fixed seed and a tolerance several standard errors wide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bes_training.workloads.arrivals import RateProfile, arrivals, constant
from bes_training.workloads.rates import markov_modulated, random_walk, walk_mean


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_gaps_have_the_stated_mean_and_variation(cv: float) -> None:
    gaps = np.diff(arrivals(np.random.default_rng(7), constant(50.0, 20_000.0, cv)))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    time = arrivals(np.random.default_rng(3), constant(20.0, 5_000.0))
    counts = np.bincount(time.astype(int), minlength=5_000)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.06)


def test_short_bursty_clips_hold_the_expected_number_on_average() -> None:
    """An ordinary renewal process (no equilibrium first gap) would hold 7.5 more than the 60 expected."""
    rng = np.random.default_rng(11)
    counts = [len(arrivals(rng, constant(60.0, 1.0, 4.0))) for _ in range(20_000)]
    assert np.mean(counts) == pytest.approx(60.0, abs=0.8)


def test_rate_follows_the_profile() -> None:
    profile = RateProfile(np.array([0.0, 10.0, 20.0, 30.0]), np.array([10.0, 0.0, 300.0]), np.ones(3))
    time = arrivals(np.random.default_rng(5), profile)
    first, pause, last = np.histogram(time, [0, 10, 20, 30])[0]
    assert pause == 0
    assert first == pytest.approx(100, abs=40)
    assert last == pytest.approx(3000, abs=220)


def test_each_segment_has_its_own_variation() -> None:
    profile = RateProfile(np.array([0.0, 1000.0, 2000.0]), np.array([20.0, 20.0]), np.array([1.0, 4.0]))
    time = arrivals(np.random.default_rng(5), profile)
    calm, wild = np.diff(time[time < 1000]), np.diff(time[time >= 1000])
    assert calm.std() / calm.mean() == pytest.approx(1.0, rel=0.05)
    assert wild.std() / wild.mean() == pytest.approx(4.0, rel=0.1)


def test_knobs_scale_rate_variation_and_time() -> None:
    profile = RateProfile(np.array([0.0, 1.0, 4.0]), np.array([3.0, 1.0]), np.ones(2))
    assert profile.mean_rate == pytest.approx(1.5)
    assert profile.scaled_to(6.0).rate.tolist() == [12.0, 4.0]
    assert profile.with_cv(2.5).cv.tolist() == [2.5, 2.5]
    stretched = profile.stretched(10.0)
    assert stretched.duration == 40.0
    assert stretched.mean_rate == pytest.approx(1.5)


def test_bursts_spend_time_in_each_state_by_its_dwell() -> None:
    profile = markov_modulated(np.random.default_rng(2), np.array([1.0, 9.0]), np.array([3.0, 1.0]), 40_000.0)
    lengths = np.diff(profile.edges)
    high = profile.rate == 9.0
    assert lengths[high].sum() / profile.duration == pytest.approx(0.25, abs=0.01)
    assert lengths[high][:-1].mean() == pytest.approx(1.0, rel=0.03)
    assert (high[1:] != high[:-1]).all()


def test_bursts_over_three_states_never_stay() -> None:
    profile = markov_modulated(np.random.default_rng(2), np.array([1.0, 2.0, 3.0]), np.ones(3), 3_000.0)
    assert (np.diff(profile.rate) != 0).all()
    shares = [np.diff(profile.edges)[profile.rate == rate].sum() / 3_000 for rate in (1.0, 2.0, 3.0)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)


def test_walk_keeps_its_bounds_and_is_uniform_in_the_logarithm() -> None:
    profile = random_walk(np.random.default_rng(9), 30.0, 1200.0, step_seconds=0.5, deviation=0.4, duration=100_000.0)
    assert profile.rate.min() >= 30.0
    assert profile.rate.max() <= 1200.0
    position = np.log(profile.rate / 30) / np.log(40)
    assert np.histogram(position, 4, (0, 1))[0] / len(position) == pytest.approx([0.25] * 4, abs=0.02)
    assert profile.mean_rate == pytest.approx(walk_mean(30, 1200), rel=0.04)


def test_walk_steps_have_the_stated_deviation_away_from_the_bounds() -> None:
    profile = random_walk(np.random.default_rng(9), 1e-9, 1e9, step_seconds=1.0, deviation=0.3, duration=20_000.0)
    assert np.diff(np.log(profile.rate)).std() == pytest.approx(0.3, rel=0.03)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rates=st.lists(st.floats(0, 200), min_size=1, max_size=6),
    cv=st.sampled_from([0.3, 1.0, 5.0]),
)
def test_arrivals_are_sorted_and_inside_for_any_profile(seed: int, rates: list[float], cv: float) -> None:
    profile = RateProfile(np.arange(len(rates) + 1.0), np.array(rates), np.full(len(rates), cv))
    time = arrivals(np.random.default_rng(seed), profile)
    assert (np.diff(time) >= 0).all()
    assert len(time) == 0 or (time[0] >= 0 and time[-1] <= profile.duration)
    empty = np.array(rates)[np.minimum(time.astype(int), len(rates) - 1)] == 0
    on_an_edge = time == np.floor(time)
    assert not (empty & ~on_an_edge).any()
