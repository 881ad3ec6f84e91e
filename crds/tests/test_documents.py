"""Files: several documents, profiles beside the service, and every problem with its line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from service_samples import Data, changed, sample, services

from bes_api.documents import LoadedFile, load_services, read_services, the_service, write_service
from bes_api.errors import DocumentError
from bes_api.presets import LATENCY_PRESETS, QUALITY_PRESETS
from bes_api.scenario import Batching
from bes_api.scenario_of import scenario_of

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
PROFILE = {
    "prefillBaseMs": "7.94",
    "prefillPerTokenMs": "0.01801",
    "decodeBaseMs": "3.658",
    "decodePerSequenceMs": "0.008",
    "decodePerContextTokenMs": "0.000304",
    "kvCacheTokens": "60000",
    "maxBatchSize": "128",
    "source": "bes profile, A100-80GB",
}


def _read(*documents: Data) -> LoadedFile:
    return read_services(yaml.safe_dump_all(documents, sort_keys=False), "x.yaml")


def _problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(DocumentError) as caught:
        read_services(text, "x.yaml")
    return [(problem.line, problem.path, problem.message) for problem in caught.value.problems]


def _config_map(**data: str) -> Data:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": PROFILE | data}


def _with_profile() -> Data:
    return changed("spec", "models", 0, "profile", to={"configMapRef": {"name": "mine"}})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_gives_a_scenario(path: Path) -> None:
    service, profiles = the_service(path)
    scenario = scenario_of(service, profiles)
    assert [task.name for task in scenario.tasks] == ["lambada", "piqa", "arc-easy", "sciq"]
    assert [task.zero_from_seconds for task in scenario.tasks] == [0.6, 0.6, 0.6, 2.0]
    for task in service.spec.tasks:
        assert task.quality.items() <= QUALITY_PRESETS[task.name].quality.items()


def test_the_examples_are_the_settings_that_they_say() -> None:
    scenarios = {path.stem: scenario_of(*the_service(path)) for path in EXAMPLES}
    assert {name: (len(s.gpus), len(s.models), s.gpus[0].interference) for name, s in scenarios.items()} == {
        "opt-paper": (4, 3, 0.0),
        "opt-time-sliced": (4, 3, 1.0),
        "opt-vllm": (4, 3, 1.0),
        "opt-five": (8, 5, 1.0),
    }
    chunked = {name for name, s in scenarios.items() if s.models[0].batching is Batching.CHUNKED_PREFILL}
    assert chunked == {"opt-vllm"}


def test_errors_name_file_line_field_and_mend() -> None:
    text = EXAMPLES[1].read_text().replace('"0.5793"', '"1.5793"')
    line = next(i for i, content in enumerate(text.splitlines(), start=1) if '"1.5793"' in content)
    with pytest.raises(DocumentError) as caught:
        read_services(text, "examples/x.yaml")
    expected = 'quality is outside 0..1: write it as a fraction such as "0.579"'
    assert str(caught.value) == f"examples/x.yaml:{line}: spec.tasks[0].quality[opt-1.3b]: {expected}"


def test_all_problems_are_reported_together_in_the_order_of_lines() -> None:
    data = changed("spec", "defaultTask", to="none")
    data["metadata"]["name"] = "0"
    data["spec"]["models"][0]["replicaRange"] = {"min": 2, "max": 1}
    problems = _problems(yaml.safe_dump(data, sort_keys=False))
    assert [path for _, path, _ in problems] == [
        "metadata.name",
        "spec.models[0]",
        "spec.models[0].replicaRange",
        "spec.defaultTask",
    ]
    lines = [line for line, _, _ in problems if line is not None]
    assert lines == sorted(lines)
    assert len(lines) == len(problems)


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (changed("spec", "modles", to=[]), "spec.modles", "did you mean models?"),
        (changed("spec", "tasks", 0, "x", to=1), "spec.tasks[0].x", "fields here: deadline, name, quality, tokens"),
        (
            changed("spec", "tasks", 0, "deadline", "soft", "till", to=1),
            "spec.tasks[0].deadline.soft.till",
            "fullUntil",
        ),
        (changed("spec", "defaultTask", to=None), "spec.defaultTask", "missing: add it"),
        (changed("spec", "models", to=[]), "spec.models", "at least 1 element"),
        (changed("spec", "models", 0, "replicas", to="2"), "spec.models[0].replicas", "without quotes"),
        (changed("spec", "models", 0, "replicas", to=0), "spec.models[0].replicas", "at least 1"),
        (changed("spec", "models", 0, "name", to="A"), "spec.models[0].name", "lower-case letters"),
        (changed("spec", "models", 0, "name", to="a" * 64), "spec.models[0].name", "63 characters: shorten"),
        (changed("spec", "engine", "type", to="vllm"), "spec.engine.type", "'VLLM'"),
        (changed("spec", "tasks", 0, "quality", "small", to=0.4), "spec.tasks[0].quality.small", 'in quotes: "0.4"'),
        (changed("spec", "tasks", 0, "quality", to=["small"]), "spec.tasks[0].quality", "write a mapping"),
        (
            changed("spec", "tasks", 1, "deadline", "hard", "within", to="1d"),
            "spec.tasks[1].deadline.hard.within",
            "600ms",
        ),
        (changed("spec", "router", to=[]), "spec.router", "mapping of fields"),
        (changed("apiVersion", to="besteffort.dev/v1"), "apiVersion", "'besteffort.dev/v1alpha1'"),
        (changed("metadata", "name", to=7), "metadata.name", "put it in quotes"),
    ],
)
def test_a_wrong_form_is_told_with_its_mend(data: Data, path: str, message: str) -> None:
    [(line, where, what)] = _problems(yaml.safe_dump(data, sort_keys=False))
    assert line is not None
    assert where == path
    assert message in what


def test_a_number_that_python_does_not_print_is_still_told_with_its_mend() -> None:
    text = yaml.safe_dump(changed("metadata", "name", to="big")).replace("name: big", f"name: 0x{'f' * 20_000}")
    [(_, where, what)] = _problems(text)
    assert (where, what) == (
        "metadata.name",
        "a number of thousands of digits has another type: write a string; put it in quotes",
    )


def test_one_wrong_element_is_not_also_a_list_that_is_too_short() -> None:
    data = changed("spec", "tasks", to=[changed("x", to=1)["spec"]["tasks"][0] | {"tokens": {}}])
    assert {path for _, path, _ in _problems(yaml.safe_dump(data))} == {
        "spec.tasks[0].tokens.prompt",
        "spec.tasks[0].tokens.output",
    }


def test_a_key_that_stands_twice_is_refused_with_the_line_of_the_second() -> None:
    text = "apiVersion: v1\nkind: BestEffortService\nmetadata:\n  name: a\n  name: b\n"
    assert _problems(text) == [(5, "metadata.name", "this key stands here twice: remove one")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2\n", 2),
        ("a: b\n c: d\n", 2),
        ("kind: X\n---\n1: b\n", 3),
        ("a: &x [*x]\n", 1),
        ("a: !!python/object:os.system x\n", 1),
        ("a: 2024-99-99\n", 1),
        ("a: !!bool maybe\n", 1),
        ("a: !!timestamp soon\n", 1),
        ('a: !!int ""\n', 1),
        ("a: *nobody\n", 1),
        ("a: " + "[" * 2000 + "]" * 2000, None),
        ("a: \x00", None),
    ],
)
def test_what_is_not_yaml_gets_one_line_and_no_traceback(text: str, line: int | None) -> None:
    [(found, _, message)] = _problems(text)
    assert found == line
    assert "\n" not in message


def test_aliases_that_unfold_without_end_are_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for previous, name in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{name}: &{name} [" + ", ".join([f"*{previous}"] * 9) + "]\n"
    [(_, _, message)] = _problems(bomb)
    assert "fewer aliases" in message


def test_anchors_and_merge_keys_work_as_in_kubernetes() -> None:
    text = yaml.safe_dump(sample(), sort_keys=False)
    text = text.replace(
        "    tokens:\n      prompt: 128\n      output: 16\n", "    tokens: &t\n      prompt: 128\n      output: 16\n"
    )
    text = text.replace("      prompt: 64\n      output: 8\n", "      <<: *t\n      output: 8\n")
    tasks = read_services(text, "x.yaml").services[0].spec.tasks
    assert (tasks[1].tokens.prompt, tasks[1].tokens.output) == (128, 8)


def test_a_file_may_hold_several_services_and_other_kinds() -> None:
    other = changed("metadata", "name", to="other")
    loaded = _read(sample(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}, other)
    assert [service.name for service in loaded.services] == ["opt", "other"]
    assert loaded.profiles == {}


def test_two_services_of_one_name_are_refused() -> None:
    with pytest.raises(DocumentError, match="two services are named 'opt'"):
        _read(sample(), sample())


def test_a_profile_is_read_from_the_config_map_that_the_model_names() -> None:
    loaded = _read(_with_profile(), _config_map())
    profile = loaded.profiles["mine"]
    assert profile.latency == LATENCY_PRESETS["opt-1.3b"].profile.latency
    assert (profile.kv_cache_tokens, profile.max_batch_size) == (60_000, 128)
    assert profile.source == "bes profile, A100-80GB"


def test_a_config_map_that_nobody_names_is_left_alone() -> None:
    assert _read(sample(), _config_map(kvCacheTokens="many")).profiles == {}


def test_a_profile_that_is_not_in_the_file_is_told_at_the_line_that_names_it() -> None:
    text = yaml.safe_dump(_with_profile(), sort_keys=False)
    [(line, path, message)] = _problems(text)
    assert path == "spec.models[0].profile.configMapRef.name"
    assert line is not None
    assert text.splitlines()[line - 1].strip() == "name: mine"
    assert "no ConfigMap 'mine' with data in this file: add it as another document" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prefillBaseMs", "0", "above 0"),
        ("decodePerSequenceMs", "-0.1", "at least 0"),
        ("decodeBaseMs", "fast", "is not a decimal"),
        ("kvCacheTokens", "6e4", "a whole number above 0"),
        ("kvCacheToken", "1", "did you mean kvCacheTokens?"),
    ],
)
def test_a_wrong_profile_is_told_at_its_line_in_the_config_map(key: str, value: str, message: str) -> None:
    text = yaml.safe_dump_all([_with_profile(), _config_map(**{key: value})], sort_keys=False)
    [(line, path, what)] = _problems(text)
    assert path == f"data.{key}"
    assert line is not None
    assert text.splitlines()[line - 1].strip().startswith(f"{key}:")
    assert message in what


def test_a_file_without_a_service_says_what_it_holds() -> None:
    with pytest.raises(DocumentError, match=r"holds no BestEffortService \(found: ConfigMap, no kind\)"):
        _read(_config_map(), {"a": "b"})
    with pytest.raises(DocumentError, match="found: nothing"):
        read_services("", "x.yaml")


def test_the_only_service_is_asked_for_where_there_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump_all([sample(), changed("metadata", "name", to="other")]))
    with pytest.raises(DocumentError, match=r"several services \(opt, other\)"):
        the_service(path)


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file"):
        load_services(tmp_path / "none.yaml")
    with pytest.raises(DocumentError, match="Is a directory"):
        load_services(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    with pytest.raises(DocumentError, match="not UTF-8"):
        load_services(tmp_path / "latin.yaml")


@given(services())
@settings(deadline=None, max_examples=25)
def test_a_written_service_reads_as_itself(data: Data) -> None:
    service = _read(data).services[0]
    assert _read(write_service(service)).services[0] == service


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.booleans(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["kind", "spec", "metadata", "data", "name", "models", "é"]), inner)
        ),
    ),
    st.sampled_from(["BestEffortService", "ConfigMap"]),
)
@settings(deadline=None, max_examples=100)
def test_any_data_under_our_kind_gives_problems_and_never_a_traceback(inner: object, kind: str) -> None:
    document = {"kind": kind, "spec": inner, "metadata": inner, "data": inner}
    with pytest.raises(DocumentError):
        read_services(yaml.safe_dump(document, allow_unicode=True), "x.yaml")


@given(st.text(alphabet=st.sampled_from(list("a:{}[]-&*!|>'\"#%@`, \n\t?<0.")), max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_text_gives_problems_and_never_a_traceback(text: str) -> None:
    with pytest.raises(DocumentError):
        read_services(text, "x.yaml")
