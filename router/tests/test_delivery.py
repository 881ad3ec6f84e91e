"""Deliveries: what decides follows from what lies in the folders, in whatever order it came, however broken it is."""

import json
import shutil
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path

import pytest
from kubelet import mount
from policy_scenarios import learned_artifact, opt_scenario, paper_artifact

from bes_api.config_map import MAX_ARTIFACT_BYTES, PASSPORT, ROUTER_CONFIG, WEIGHTS, data_digest, read_files
from bes_api.errors import BestEffortError
from bes_api.router_config import (
    ConfiguredPolicy,
    DeadlineAwarePolicy,
    DeliveredPolicy,
    LearnedPolicy,
    Listen,
    PaperPolicy,
    PricedPolicy,
    RouterConfig,
)
from bes_api.scenario import Scenario
from bes_router.delivery import Delivered, Delivery, Sources
from bes_router.policy.artifact import Artifact, write_artifact

SCENARIO = opt_scenario()
SMALLER = SCENARIO.model_copy(
    update={
        "models": SCENARIO.models[:2],
        "tasks": tuple(
            task.model_copy(update={"quality": {name: task.quality[name] for name in ("opt-125m", "opt-1.3b")}})
            for task in SCENARIO.tasks
        ),
    }
)


def document(policy: ConfiguredPolicy | None = None, scenario: Scenario = SCENARIO, **fields: object) -> bytes:
    config = RouterConfig(service="opt", scenario=scenario, policy=policy or DeliveredPolicy(), **fields)
    return config.model_dump_json().encode()


def artifact_files(artifact: Artifact, folder: Path) -> dict[str, bytes]:
    write_artifact(folder, artifact.passport, artifact.tensors)
    files = read_files(folder, MAX_ARTIFACT_BYTES)
    shutil.rmtree(folder)
    return files


class Folders:
    """The three folders, as kubelet mounts them, and what a router would serve by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.learned = artifact_files(learned_artifact(SCENARIO, 1), root / "made")
        self.other = artifact_files(learned_artifact(SCENARIO, 2), root / "made")
        self.paper = artifact_files(paper_artifact(SCENARIO, 1), root / "made")
        self.put(config={ROUTER_CONFIG: document()}, policy={}, candidate={})
        self.delivery = Delivery(Sources(root / "config", root / "policy", root / "candidate"))
        self.now = self.delivery.first()

    def put(self, **folders: Mapping[str, bytes]) -> None:
        for name, files in folders.items():
            mount(self.root / name, files)

    def look(self) -> Delivered | None:
        new = self.delivery.look(self.now)
        if new is not None:
            self.now = new
        return new

    def after(self, **folders: Mapping[str, bytes]) -> Delivered:
        self.put(**folders)
        self.look()
        assert self.look() is None
        return self.now


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_before_anything_is_delivered_the_fallback_decides_and_says_why(folders: Folders) -> None:
    loaded = folders.now.loaded
    assert loaded.name == "DeadlineAware; fallback=absent"
    assert "no artifact has been delivered yet" in loaded.problem
    assert folders.now.digest == data_digest({ROUTER_CONFIG: document()})
    assert folders.now.candidate is None


@pytest.mark.parametrize("kind", ["learned", "paper"])
def test_an_artifact_of_either_kind_decides_once_it_is_delivered(folders: Folders, kind: str) -> None:
    files = getattr(folders, kind)
    now = folders.after(policy=files)
    assert now.loaded.name == kind.capitalize()
    assert now.loaded.digest == data_digest(files)
    assert now.loaded.passport is not None


Damage = Callable[[Folders], Mapping[str, bytes]]


def stamped(files: Mapping[str, bytes], **fields: object) -> dict[str, bytes]:
    return {**files, PASSPORT: json.dumps({**json.loads(files[PASSPORT]), **fields}).encode()}


@pytest.mark.parametrize(
    ("damage", "word", "says"),
    [
        (lambda it: {**it.learned, WEIGHTS: it.learned[WEIGHTS][:-1]}, "unreadable", "sha256"),
        (lambda it: {**it.learned, WEIGHTS: b"x" + it.learned[WEIGHTS][1:]}, "unreadable", "sha256"),
        (lambda it: {**it.learned, WEIGHTS: it.other[WEIGHTS]}, "unreadable", "sha256"),
        (lambda it: {**it.learned, PASSPORT: it.learned[PASSPORT][:50]}, "unreadable", "passport.json"),
        (lambda it: {**it.learned, PASSPORT: b"\xff\xfe"}, "unreadable", "passport.json"),
        (lambda it: {PASSPORT: it.learned[PASSPORT]}, "unreadable", "weights.safetensors"),
        (lambda it: {WEIGHTS: it.learned[WEIGHTS]}, "unreadable", "passport.json"),
        (lambda it: {**it.learned, "more": bytes(MAX_ARTIFACT_BYTES)}, "unreadable", "larger than 921600 bytes"),
        (lambda it: stamped(it.learned, version=2), "unreadable", "version"),
        (lambda it: stamped(it.paper, models=["a", "b", "c"]), "misfit", "its models are"),
        (lambda it: stamped(it.paper, tasks=["a", "b"]), "misfit", "its tasks are"),
        (lambda it: stamped(it.learned, feature_names=[f"f{i}" for i in range(24)]), "misfit", "features"),
        (lambda _: {}, "absent", "empty"),
    ],
    ids=[
        "truncated", "corrupted", "exchanged", "passport-cut", "passport-bytes", "no-weights", "no-passport",
        "too-large", "other-version", "other-models", "other-tasks", "other-layout", "withdrawn",
    ],
)  # fmt: skip
def test_a_broken_policy_means_the_fallback_until_it_is_restored(
    folders: Folders, damage: Damage, word: str, says: str
) -> None:
    whole = folders.after(policy=folders.learned)
    broken = folders.after(policy=damage(folders))
    assert broken.loaded.name == f"DeadlineAware; fallback={word}"
    assert says in broken.loaded.problem
    assert broken.loaded.digest is None
    restored = folders.after(policy=folders.learned)
    assert (restored.loaded.name, restored.loaded.digest) == ("Learned", whole.loaded.digest)


def test_a_file_written_in_pieces_is_never_taken_for_broken(tmp_path: Path) -> None:
    files = artifact_files(learned_artifact(SCENARIO, 1), tmp_path / "made")
    (tmp_path / "router.json").write_bytes(document())
    (tmp_path / "policy").mkdir()
    delivery = Delivery(Sources(tmp_path / "router.json", tmp_path / "policy"))
    now = delivery.first()
    seen = []
    for end in range(0, len(files[WEIGHTS]) + 1, 400):
        (tmp_path / "policy" / WEIGHTS).write_bytes(files[WEIGHTS][:end])
        seen.append(delivery.look(now))
    for name, content in files.items():
        (tmp_path / "policy" / name).write_bytes(content)
    assert seen == [None] * len(seen)
    assert delivery.changing
    looks = [delivery.look(now) for _ in range(3)]
    found = next(each for each in looks if each is not None)
    assert found.loaded.name == "Learned"


def test_the_scorer_survives_a_changed_catalogue_and_the_papers_network_only_its_own(folders: Folders) -> None:
    folders.after(policy=folders.learned)
    now = folders.after(config={ROUTER_CONFIG: document(scenario=SMALLER)})
    assert (now.loaded.name, len(now.config.scenario.models)) == ("Learned", 2)
    assert folders.after(policy=folders.paper).loaded.word == "misfit"
    assert folders.after(config={ROUTER_CONFIG: document()}).loaded.name == "Paper"


def test_the_order_in_which_things_arrive_does_not_matter(tmp_path: Path) -> None:
    ends = set()
    for number, order in enumerate(permutations(("config", "policy", "candidate"))):
        folders = Folders(tmp_path / str(number))
        new = {
            "config": {ROUTER_CONFIG: document(scenario=SMALLER)},
            "policy": folders.learned,
            "candidate": folders.other,
        }
        for name in order:
            folders.after(**{name: new[name]})
        now = folders.now
        assert now.candidate is not None
        ends.add((now.digest, now.loaded.name, now.loaded.digest, now.candidate.digest, now.candidate.problem))
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({ROUTER_CONFIG: b"{"}, "JSON"),
        ({ROUTER_CONFIG: document()[:200]}, "JSON"),
        ({ROUTER_CONFIG: b'{"version": 1}'}, "scenario"),
        ({ROUTER_CONFIG: document().replace(b'"version":1', b'"version":2', 1)}, "version"),
        ({}, "expected the file router.json, there is nothing"),
        ({"a.json": document(), "b.json": document()}, "there is a.json, b.json"),
        ({ROUTER_CONFIG: document(listen=Listen(port=1))}, "restart"),
        ({ROUTER_CONFIG: document(admin=Listen(port=1))}, "restart"),
        ({ROUTER_CONFIG: document(fallback=DeadlineAwarePolicy(parameters=(1.0, 2.0, 3.0, 4.0, 5.0)))}, "fallback"),
        ({ROUTER_CONFIG: document() + bytes(1024 * 1024)}, "larger than"),
    ],
    ids=["brace", "cut", "fields", "version", "empty", "two", "listen", "admin", "fallback", "large"],
)
def test_a_configuration_that_cannot_be_used_changes_nothing_and_says_why(
    folders: Folders, files: Mapping[str, bytes], says: str
) -> None:
    before = folders.after(policy=folders.learned)
    now = folders.after(config=files)
    assert now.refused is not None
    assert says in now.refused.problem
    assert (now.config, now.digest, now.loaded.name) == (before.config, before.digest, "Learned")
    # a policy that comes meanwhile is taken, and the old configuration coming back clears the problem
    assert folders.after(policy=folders.other).loaded.digest == data_digest(folders.other)
    back = folders.after(config={ROUTER_CONFIG: document()})
    assert back.refused is None
    assert back.config is before.config


def test_a_refused_configuration_that_names_another_folder_leaves_the_policy_as_it_was(folders: Folders) -> None:
    folders.after(policy=folders.learned)
    bad = document(LearnedPolicy(artifact=folders.root / "nowhere"), fallback=PricedPolicy(parameters=(1.0,)))
    assert folders.after(config={ROUTER_CONFIG: bad}).refused is not None
    assert folders.now.loaded.name == "Learned"
    assert folders.after(policy=folders.other).loaded.digest == data_digest(folders.other)


def test_the_same_configuration_written_otherwise_is_no_change_but_has_its_digest(folders: Folders) -> None:
    before = folders.now
    pretty = json.dumps(json.loads(document()), indent=2).encode()
    now = folders.after(config={ROUTER_CONFIG: pretty})
    assert now.config is before.config
    assert now.loaded is before.loaded
    assert now.digest == data_digest({ROUTER_CONFIG: pretty}) != before.digest


def test_an_artifact_that_the_configuration_names_itself_is_followed_too(folders: Folders) -> None:
    mount(folders.root / "own", folders.learned)
    config = document(LearnedPolicy(artifact=folders.root / "own"))
    assert folders.after(config={ROUTER_CONFIG: config}).loaded.digest == data_digest(folders.learned)
    assert folders.after(own=folders.other).loaded.digest == data_digest(folders.other)
    assert folders.after(own=folders.paper).loaded.word == "misfit"  # the configuration asks for Learned
    config = document(PaperPolicy(artifact=folders.root / "own"))
    assert folders.after(config={ROUTER_CONFIG: config}).loaded.name == "Paper"


def test_a_rule_needs_nothing_delivered(folders: Folders) -> None:
    now = folders.after(config={ROUTER_CONFIG: document(PricedPolicy())}, policy=folders.learned)
    assert (now.loaded.name, now.loaded.digest) == ("Priced", None)


def test_without_a_folder_a_delivered_policy_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "router.json").write_bytes(document())
    loaded = Delivery(Sources(tmp_path / "router.json")).first().loaded
    assert "--policy" in loaded.problem
    assert loaded.word == "absent"


def test_a_start_without_a_usable_configuration_fails_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "router.json").write_bytes(document(fallback=DeadlineAwarePolicy(parameters=(1.0,) * 9)))
    with pytest.raises(BestEffortError, match="fallback"):
        Delivery(Sources(tmp_path / "router.json")).first()
    with pytest.raises(BestEffortError, match="nowhere"):
        Delivery(Sources(tmp_path / "nowhere")).first()


def test_a_candidate_comes_is_broken_and_goes(folders: Folders) -> None:
    now = folders.after(candidate=folders.other)
    assert now.candidate is not None
    assert now.candidate.policy is not None
    assert now.candidate.digest == data_digest(folders.other)
    assert now.loaded is folders.now.loaded
    broken = folders.after(candidate={**folders.other, WEIGHTS: b""}).candidate
    assert broken is not None
    assert broken.policy is None
    assert "sha256" in broken.problem
    assert folders.after(candidate={}).candidate is None


def test_a_candidates_figures_go_on_while_its_files_are_the_same(folders: Folders) -> None:
    before = folders.after(candidate=folders.other).candidate
    after = folders.after(config={ROUTER_CONFIG: document(scenario=SMALLER)}).candidate
    assert before is not None
    assert after is not None
    assert after.policy is not before.policy
    assert after.figures is before.figures
    renewed = folders.after(candidate=folders.learned).candidate
    assert renewed is not None
    assert renewed.figures is not before.figures
