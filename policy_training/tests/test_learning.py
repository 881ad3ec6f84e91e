"""A training as a whole: it learns, it repeats itself bit by bit, it resumes, and it refuses what is not its own."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bes_api.config_map import PASSPORT, WEIGHTS
from bes_api.documents import the_service
from bes_api.passport import Passport
from bes_api.scenario import Scenario
from bes_api.scenario_of import scenario_of
from bes_api.service import Learner
from bes_router.policy import candidates
from bes_router.policy.artifact import fits, read_artifact
from bes_training.evolution.search import Found, SearchSettings, objective, search
from bes_training.evolution.spaces import alike, base_parameters, base_space, linear_space, opponents, scorer_space
from bes_training.learning import train as whole
from bes_training.learning.evolve import Scorer, learn_to_guess
from bes_training.learning.ground import prepare, prepare_guessing
from bes_training.learning.journal import JOURNAL, Journal, JournalError
from bes_training.learning.opponents import Opponents
from bes_training.learning.settings import TrainingSettings, settings_of
from bes_training.learning.watch import Watch

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "opt-time-sliced.yaml"
TINY = TrainingSettings(
    learner=Learner.EVOLUTION,
    decisions=2_000,
    opponents="few",
    traces=24,
    requests=400,
    validation_requests=300,
    shortened=True,
)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return scenario_of(*the_service(EXAMPLE))


def trained(scenario: Scenario, folder: Path, settings: TrainingSettings = TINY) -> whole.Trained:
    with Watch(Console(file=StringIO()), whole.stages(scenario, settings)) as watch:
        return whole.train(scenario, settings, folder, watch)


@pytest.fixture(scope="module")
def first(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> whole.Trained:
    return trained(scenario, tmp_path_factory.mktemp("first"))


def test_a_training_leaves_a_checked_artifact_that_names_its_opponents(
    scenario: Scenario, first: whole.Trained
) -> None:
    artifact = read_artifact(first.policy)
    fits(artifact, scenario)
    passport = artifact.passport
    assert passport.scenario_hash == scenario.content_hash()
    assert passport.training.shortened
    assert first.comparator in passport.tuned_rules
    assert set(passport.versions) >= {"python", "numba", "cma"}
    assert first.network is None


def test_the_same_seed_gives_the_same_bytes(scenario: Scenario, first: whole.Trained, tmp_path: Path) -> None:
    again = trained(scenario, tmp_path)
    assert (again.policy / WEIGHTS).read_bytes() == (first.policy / WEIGHTS).read_bytes()
    drop = {"training"}  # its seconds are the machine's
    one, two = (Passport.read(each.policy / PASSPORT).model_dump(exclude=drop) for each in (first, again))
    assert one == two


def test_a_training_that_was_stopped_between_stages_ends_in_the_same_weights(
    scenario: Scenario, first: whole.Trained, tmp_path: Path
) -> None:
    journal = json.loads((first.policy.parent / JOURNAL).read_text())
    stages = list(journal["stages"])
    kept = {name: journal["stages"][name] for name in stages[: len(stages) - 2]}
    (tmp_path / JOURNAL).write_text(json.dumps({**journal, "stages": kept}))
    resumed = trained(scenario, tmp_path)
    assert (resumed.policy / WEIGHTS).read_bytes() == (first.policy / WEIGHTS).read_bytes()


def test_a_training_of_which_every_stage_is_known_plays_no_rule_again_to_search_by(
    scenario: Scenario, first: whole.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (first.policy / WEIGHTS).read_bytes()
    monkeypatch.delattr(Opponents, "best_on")
    assert (trained(scenario, first.policy.parent).policy / WEIGHTS).read_bytes() == before


def test_the_time_of_a_training_is_that_of_all_its_runs(tmp_path: Path) -> None:
    with Journal(tmp_path, "x", iter([10.0, 13.0]).__next__).timed("first"):
        pass
    again = Journal(tmp_path, "x", iter([50.0, 51.5, 60.0, 62.0]).__next__)
    with pytest.raises(KeyboardInterrupt), again.timed("second"):
        raise KeyboardInterrupt
    with again.timed("second"):
        pass
    assert Journal(tmp_path, "x").seconds == again.seconds == 3.0 + 1.5 + 2.0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": 3}', '{"identity": "x", "stages": {}, "seconds": 3}'])
def test_a_damaged_journal_is_refused_with_its_mend(content: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(JournalError, match="another --out"):
        Journal(tmp_path, "x")


@pytest.mark.parametrize(
    "change", [{"vector": ["x"]}, {"vector": [float("nan")]}, {"curve": 3}, {"curve": [[1]]}, {"strange": 1}]
)
def test_a_damaged_stage_of_a_journal_is_refused_with_its_mend(change: dict[str, object], tmp_path: Path) -> None:
    Journal(tmp_path, "x").keep("stage", Found("stage", np.zeros(2), 0.5, 10, 1))
    content = json.loads((tmp_path / JOURNAL).read_text())
    assert Journal(tmp_path, "x").found("stage") is not None
    content["stages"]["stage"] |= change
    (tmp_path / JOURNAL).write_text(json.dumps(content))
    with pytest.raises(JournalError, match="another --out"):
        Journal(tmp_path, "x").found("stage")


def test_the_journal_of_another_training_is_refused(scenario: Scenario, first: whole.Trained) -> None:
    with pytest.raises(JournalError, match="another scenario or other settings"):
        trained(scenario, first.policy.parent, replace(TINY, decisions=3_000))


def test_a_search_learns(scenario: Scenario) -> None:
    ground = prepare(scenario, replace(TINY, requests=1_000, validation_requests=600))
    space = base_space(ground.catalogue)
    everything = range(len(ground.validation.traces))
    start = ground.validation.losses([space.brain(space.start)], everything).mean()
    found = search(space, ground.training, ground.validation, SearchSettings(4_000_000, seed=3))
    assert found.validation_loss < start - 0.01
    assert found.decisions >= 4_000_000


def test_a_scorer_learns_to_guess_and_decides_as_before_what_it_knows(scenario: Scenario, tmp_path: Path) -> None:
    settings = replace(TINY, decisions=60_000, validation_requests=600)
    ground = prepare(scenario, settings)
    base = base_space(ground.catalogue)
    parameters = base_parameters(base.start)
    zero = np.zeros((2, candidates.WIDTH))
    before = Scorer(1, alike(parameters), zero, np.zeros(0), np.zeros(0), np.zeros((2, 0)), 0.0, 0, ())
    rivals = Opponents({}, (base.brain(base.start),), np.zeros((1, 1)), "", 0)
    with Watch(Console(file=StringIO()), 1) as watch:
        after = learn_to_guess(before, ground, rivals, settings, Journal(tmp_path, "x"), watch)
    assert after.decisions >= settings.evolution_decisions
    brains = [before.brain(ground), after.brain(ground)]
    known = ground.validation.losses(brains, range(8))
    assert (known[0] == known[1]).all()
    _, held = prepare_guessing(ground, settings)
    guessed = held.losses(brains, range(len(held.traces))).mean(axis=1)
    assert guessed[1] < guessed[0] - 0.005


def test_guessing_is_learned_where_several_routers_have_old_figures(scenario: Scenario) -> None:
    fields = prepare_guessing(prepare(scenario, TINY), TINY)
    for field in fields:
        figures = [trace.circumstances.figures for trace in field.traces]
        assert all(each.interval >= 1.0 for each in figures)
        assert {len(each.polls) for each in figures} >= {2, 4}
        assert min(len(each.polls) for each in figures) >= 2


def test_silent_learned_parts_score_like_the_base_rule(scenario: Scenario) -> None:
    ground = prepare(scenario, TINY)
    base = base_space(ground.catalogue)
    parameters = base_parameters(base.start)
    linear = linear_space(ground.catalogue, parameters)
    scorer = scorer_space(ground.catalogue, parameters, linear.start, np.random.default_rng(1))
    brains = [space.brain(space.start) for space in (base, linear, scorer)]
    losses = ground.validation.losses(brains, range(6))
    assert (losses == losses[0]).all()


def test_losing_to_the_best_rule_of_a_trace_costs_more_than_it_loses() -> None:
    losses = np.array([[0.2, 0.2], [0.1, 0.3]])
    assert objective(losses, None).tolist() == pytest.approx([0.2, 0.2])
    assert objective(losses, np.array([0.2, 0.2])).tolist() == pytest.approx([0.2, 0.2 + 3 * 0.05])


def test_every_rule_is_searched_with_every_placement(scenario: Scenario) -> None:
    names = {space.name for space in opponents(prepare(scenario, TINY).catalogue)}
    kinds = {"Static0", "Static1", "Static2", "DeadlineAware", "Threshold", "Priced", "PricedGated"}
    assert names == {f"{kind}/{place}" for kind in kinds for place in ("LeastLoaded", "LeastFinish", "Bunched")}


def test_fewer_decisions_than_the_resource_asks_for_are_called_shortened() -> None:
    service, _ = the_service(EXAMPLE)
    assert settings_of(service, threads=1, decisions=1_000).shortened
    assert not settings_of(service, threads=1).shortened
