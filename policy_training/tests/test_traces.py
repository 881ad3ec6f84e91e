import numpy as np
import pytest

from bes_training.workloads.arrivals import arrivals
from bes_training.workloads.traces import (
    MAF_FILES,
    MAX_GAP_CV,
    SERVEGEN_POOLS,
    Clip,
    Part,
    azure_arrivals,
    azure_segment,
    clip_profile,
    series_of,
)

DEMO = Clip(source="MAF2019", series="A", start=30, length=30, window_units=1.0)


def test_no_maf_file_serves_two_parts() -> None:
    used = [name for names in MAF_FILES.values() for name in names]
    assert sorted(used) == sorted("ABCDEFHI")
    with pytest.raises(ValueError, match="not train data"):
        series_of(Part.TRAIN, "MAF2019", "A")


def test_azure_parts_are_disjoint_and_in_time_order() -> None:
    lengths = {part: len(azure_arrivals(part)) for part in Part}
    assert sum(lengths.values()) == 19_366
    spans = [azure_arrivals(part)[-1] for part in Part]
    assert spans == pytest.approx([2101, 700, 700], abs=3)


@pytest.mark.parametrize("pool", SERVEGEN_POOLS)
def test_servegen_parts_add_up_in_the_stated_proportions(pool: str) -> None:
    lengths = [len(series_of(part, "ServeGen", pool).rate) for part in Part]
    assert sum(lengths) == (144 if pool == "deepseek-r1" else 2016)
    assert lengths == pytest.approx([sum(lengths) * days / 14 for days in (9, 2, 3)], abs=1)
    assert all(series_of(part, "ServeGen", pool).cv.max() <= MAX_GAP_CV for part in Part)


def test_a_clip_has_the_mean_asked_for_and_the_shape_of_its_counts() -> None:
    profile = clip_profile(Part.TEST, DEMO, 186.0, 1.0)
    assert profile.mean_rate == pytest.approx(186.0)
    assert profile.duration == 30.0
    assert profile.rate.max() / profile.mean_rate == pytest.approx(3.07, abs=0.01)  # minute 46 of file A
    assert int(profile.rate.argmax()) == 15
    time = arrivals(np.random.default_rng(1), profile)
    assert len(time) == pytest.approx(186 * 30, rel=0.05)


def test_a_clip_beyond_its_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"starts\(length\)"):
        clip_profile(Part.TEST, DEMO.model_copy(update={"start": 1430}), 1.0, 1.0)


def test_outages_are_no_starts() -> None:
    series = series_of(Part.TEST, "ServeGen", "m-small")
    assert not series.usable.all()
    dead = int(np.flatnonzero(~series.usable)[0])
    assert not set(range(dead - 11, dead + 1)) & set(series.starts(12).tolist())


def test_recorded_arrivals_are_replayed_at_another_speed() -> None:
    time, duration = azure_segment(Part.VALIDATION, 10, 1000, 50.0)
    assert (len(time), duration) == (1000, 20.0)
    recorded = azure_arrivals(Part.VALIDATION)[10:1010]
    assert np.corrcoef(np.diff(time), np.diff(recorded))[0, 1] == pytest.approx(1.0)
    assert len(azure_segment(Part.VALIDATION, 4_000, 1000, 50.0)[0]) < 1000
    with pytest.raises(ValueError, match="start earlier"):
        azure_segment(Part.VALIDATION, 10**6, 10, 1.0)
