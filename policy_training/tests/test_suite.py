import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from bes_training.workloads.suite import Definition, load_suite, realise
from bes_training.workloads.traces import Part
from bes_training.workloads.training import training_workload
from bes_training.workloads.workload import Setting, Workload

SETTING = Setting(62.0, np.full(4, 128), np.full(4, 16))


def digest(workload: Workload) -> str:
    """Of microseconds, so that another C library's last bit of a logarithm does not matter."""
    content = hashlib.sha256(np.rint(workload.time * 1e6).astype("<i8").tobytes())
    content.update(workload.task.astype("<i8").tobytes())
    return content.hexdigest()[:16]


def test_the_test_suite_is_the_one_that_was_promised() -> None:
    suite = load_suite(Part.TEST)
    families = [item.family for item in suite.workloads]
    assert {name: families.count(name) for name in set(families)} == {
        "poisson": 7, "gamma": 3, "walk": 6, "maf": 12, "servegen": 9,
    }  # fmt: skip
    assert len(suite.seeds) == 3
    by_family = {
        name: sorted(i.multiple for i in suite.workloads if i.family == name and i.multiple) for name in families
    }
    assert by_family["poisson"] == [0.5, 1, 2, 3, 5, 10, 20]
    assert by_family["gamma"] == [1, 3, 10]
    assert set(by_family["maf"]) == set(by_family["servegen"]) == {1, 2, 4}


def test_suites_do_not_share_seeds_or_recorded_traffic() -> None:
    test, validation = load_suite(Part.TEST), load_suite(Part.VALIDATION)
    assert not set(test.seeds) & set(validation.seeds)
    assert (test.part, validation.part) == ("test", "validation")
    with pytest.raises(ValueError, match="no suite"):
        load_suite(Part.TRAIN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("poisson-2x", "a31a289fba0e95a7"),
        ("gamma-cv4-3x", "4937a27e174f742c"),
        ("walk-6", "7e39da1e50b0bf2e"),
        ("maf-a30-4x", "0f6e2ef5bc03bcf0"),
        ("servegen-m-mid-2x", "a714681495bb0199"),
    ],
)
def test_a_realised_workload_never_changes(name: str, expected: str) -> None:
    definition = next(item for item in load_suite(Part.TEST).workloads if item.id == name)
    made = realise(definition, Part.TEST, 101, SETTING)
    assert digest(made) == expected
    assert digest(realise(definition, Part.TEST, 102, SETTING)) != expected


@pytest.mark.parametrize(("part", "expected"), [(Part.TEST, "a7955d316cc5f696"), (Part.VALIDATION, "b947e674db6bf60f")])
def test_no_workload_of_a_committed_suite_ever_changes(part: Part, expected: str) -> None:
    content = hashlib.sha256()
    for workload in load_suite(part).realise(SETTING):
        content.update(f"{workload.id} {digest(workload)}\n".encode())
    assert content.hexdigest()[:16] == expected


@pytest.mark.parametrize("part", [Part.TEST, Part.VALIDATION])
def test_every_workload_has_its_load_and_a_bounded_length(part: Part) -> None:
    suite = load_suite(part)
    multiples = suite.multiples()
    for workload in suite.realise(SETTING):
        assert 1_500 <= len(workload) <= 20_000
        if workload.name in multiples:
            wide = workload.name.startswith(("gamma", "servegen"))
            expected = multiples[workload.name] * SETTING.base_rate
            assert workload.mean_rate == pytest.approx(expected, rel=0.35 if wide else 0.1), workload.id


def test_a_slow_service_gets_as_many_requests_in_a_longer_time() -> None:
    slow = Setting(0.5, np.full(2, 128), np.full(2, 16), unit_seconds=2000 / 30)
    definition = next(item for item in load_suite(Part.TEST).workloads if item.id == "poisson-1x")
    made = realise(definition, Part.TEST, 101, slow)
    assert len(made) == pytest.approx(2000, rel=0.1)
    assert made.duration == pytest.approx(4000)


def test_a_quick_service_gets_a_shorter_clip_with_the_stated_mean() -> None:
    quick = Setting(400.0, np.full(2, 128), np.full(2, 16))
    definition = next(item for item in load_suite(Part.TEST).workloads if item.id == "maf-e390-4x")
    made = realise(definition, Part.TEST, 101, quick)
    assert made.duration == 12.0
    assert made.mean_rate == pytest.approx(1600, rel=0.05)


def test_a_walk_has_no_multiple_and_everything_else_has_one() -> None:
    with pytest.raises(ValidationError, match="multiple"):
        Definition.model_validate({"id": "x", "family": "poisson", "law": {"type": "Stationary"}})
    walk = {"type": "RandomWalk", "low": 1, "high": 2}
    with pytest.raises(ValidationError, match="multiple"):
        Definition.model_validate({"id": "x", "family": "walk", "law": walk, "multiple": 1})


def test_training_draws_every_law_half_of_it_at_low_load() -> None:
    rng = np.random.default_rng(8)
    drawn = [training_workload(rng, SETTING, max_requests=1_000) for _ in range(600)]
    names = {workload.name for workload in drawn}
    assert names == {"train.walk", "train.bursts", "train.poisson", "train.gamma", "train.recorded"}
    low = [workload for workload in drawn if workload.id.endswith("/low")]
    assert len(low) / len(drawn) == pytest.approx(0.5, abs=0.08)
    assert {int(workload.router.max(initial=0)) + 1 for workload in drawn} == {1, 2, 3, 4}
    assert max(map(len, drawn)) <= 1_000 * 25 / 8


def test_a_denser_training_trace_is_no_shorter_beyond_8x() -> None:
    rng = np.random.default_rng(9)
    drawn = [training_workload(rng, SETTING, max_requests=1_000) for _ in range(300)]
    steady = [workload for workload in drawn if workload.name == "train.poisson" and workload.duration > 0]
    shortest = 1_000 / (8 * SETTING.base_rate)
    assert max(map(len, steady)) > 2_000
    assert min(workload.duration for workload in steady) == pytest.approx(shortest, rel=0.02)


def test_training_is_reproducible() -> None:
    first, second = (training_workload(np.random.default_rng(3), SETTING) for _ in range(2))
    assert digest(first) == digest(second)
