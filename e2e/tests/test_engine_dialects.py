"""The emulated engines' answers against the recorded ones (crds/tests/data/engines), over a real socket."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_http import Reply, ask
from lab_scenarios import scenario

from bes_api.handover import dump_document
from bes_api.service import EngineType
from bes_lab.engine.process import EngineAddresses
from bes_lab.local.children import Children, bes

FOLDER = Path(__file__).parents[2] / "crds" / "tests" / "data" / "engines"
FILES = {"vllm.yaml": EngineType.VLLM, "text-generation-inference.yaml": EngineType.TEXT_GENERATION_INFERENCE}
DOCUMENTS = {engine: yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")) for name, engine in FILES.items()}
ANSWERS = [
    pytest.param(engine, answer, id=f"{engine}-{answer['name']}")
    for engine, document in DOCUMENTS.items()
    for answer in document["answers"]
]
COMMAND = "/emulated/fault"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[EngineType, int]]:
    """Port of the model `small` per engine type."""
    folder = tmp_path_factory.mktemp("dialects")
    dump_document(scenario(), folder / "scenario.json")
    with Children() as children:
        found = {}
        for engine in FILES.values():
            addresses = folder / f"{engine}.json"
            given = ("--engine", str(engine), "--addresses", str(addresses))
            children.start(str(engine), bes("engine", str(folder / "scenario.json"), *given), folder / f"{engine}.log")
            children.wait_until(addresses.exists, "ready", 20.0)
            found[engine] = EngineAddresses.read(addresses).engines[0].port
        yield found


def shape(value: object) -> object:
    """Names and types; of a list that of its first element."""
    match value:
        case dict():
            return {name: shape(each) for name, each in value.items()}
        case list():
            return [shape(each) for each in value[:1]]
        case bool() | None:
            return type(value).__name__
        case int() | float() | str():
            return type(value).__name__
    raise AssertionError(value)


def at(document: Any, path: str) -> object:
    for part in path.split("."):
        document = document[int(part) if part.isdigit() else part]
    return document


def has(document: Any, path: str) -> bool:
    try:
        at(document, path)
    except (KeyError, IndexError):
        return False
    return True


def check(given: object, recorded: object, equal: Sequence[str]) -> None:
    """Probabilities have tokens for names: there the shape of one counts for all."""
    assert shape(without_tokens(given)) == shape(without_tokens(recorded))
    for path in equal:
        if has(recorded, path):
            assert at(given, path) == at(recorded, path), path


def without_tokens(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: sorted(each[0].values())[:1]
            if name == "top_logprobs" and isinstance(each[0], dict) and "token" not in each[0]
            else without_tokens(each)
            for name, each in value.items()
        }
    return [without_tokens(each) for each in value] if isinstance(value, list) else value


def json_of(reply: Reply) -> Any:
    return reply.json


def events_of(reply: Reply) -> list[Any]:
    *events, done, rest = reply.body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


@pytest.mark.parametrize(("engine", "answer"), ANSWERS)
def test_an_answer_has_the_recorded_shape(ports: dict[EngineType, int], engine: EngineType, answer: Any) -> None:
    port, request = ports[engine], answer["request"]
    if "fault" in answer:
        assert ask(port, "POST", COMMAND, answer["fault"]).status == 200
    try:
        reply = ask(port, "POST" if "body" in request else "GET", request["path"], request.get("body"))
    finally:
        ask(port, "DELETE", COMMAND)
    assert reply.status == answer["status"]
    equal = answer.get("equal", ())
    if "events" in answer:
        given, (first, middle, *last) = events_of(reply), answer["events"]
        check(given[0], first, equal)
        for event in given[1 : -len(last)]:
            check(event, middle, equal)
        for event, recorded in zip(given[-len(last) :], last, strict=True):
            check(event, recorded, equal)
    elif answer["body"] == "":
        assert reply.body == b""
    else:
        check(json_of(reply), answer["body"], equal)


@pytest.mark.parametrize("engine", list(FILES.values()))
def test_the_metrics_page_has_the_documented_names(ports: dict[EngineType, int], engine: EngineType) -> None:
    recorded = DOCUMENTS[engine]["metrics"]
    page = ask(ports[engine], "GET", "/metrics").body.decode()
    for kind in ("gauge", "counter"):
        for name in recorded[f"{kind}s"]:
            assert f"# TYPE {name} {kind}\n" in page
            series = [line for line in page.splitlines() if line.startswith(name)]
            assert series
            assert all(f'{label}="' in line for label in recorded["labels"] for line in series)


@pytest.mark.parametrize("engine", list(FILES.values()))
def test_what_is_in_flight_shows_on_the_metrics_page(ports: dict[EngineType, int], engine: EngineType) -> None:
    body = {"prompt": "one two", "max_tokens": 12, "stream": True}
    assert ask(ports[engine], "POST", "/v1/completions", body).status == 200
    page = ask(ports[engine], "GET", "/metrics").body.decode()
    finished = {"VLLM": "vllm:request_success_total", "TextGenerationInference": "tgi_request_success"}[engine]
    assert sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(finished)) >= 1


def test_choices_of_one_prompt_differ_and_each_is_a_sequence(ports: dict[EngineType, int]) -> None:
    body = {"prompt": ["one", "two three"], "max_tokens": 5, "n": 3}
    answer = json_of(ask(ports[EngineType.VLLM], "POST", "/v1/completions", body))
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert len({choice["text"] for choice in answer["choices"][:3]}) == 3
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 30


def test_a_seed_decides_the_text(ports: dict[EngineType, int]) -> None:
    def text(**more: object) -> str:
        body = {"prompt": "one", "max_tokens": 5, **more}
        answer = json_of(ask(ports[EngineType.VLLM], "POST", "/v1/completions", body))
        return str(answer["choices"][0]["text"])

    assert text(seed=7) == text(seed=7)
    assert len({text(seed=seed) for seed in range(8)}) > 3


def test_a_stream_of_several_choices_carries_each_with_its_index(ports: dict[EngineType, int]) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "n": 2, "stream": True}
    events = events_of(ask(ports[EngineType.VLLM], "POST", "/v1/chat/completions", body))
    deltas = [choice for event in events for choice in event["choices"]]
    for index in (0, 1):
        mine = [choice for choice in deltas if choice["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["finish_reason"] for choice in mine] == [None] * 4 + ["length"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_streamed_and_a_whole_answer_say_the_same_up_to_the_stop_string(
    ports: dict[EngineType, int], path: str
) -> None:
    prompt = {"prompt": "one"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "one"}]}
    for engine in FILES.values():
        body = {**prompt, "max_tokens": 16, "stop": ["in time"], "seed": None}
        whole = json_of(ask(ports[engine], "POST", path, body))["choices"][0]
        events = events_of(ask(ports[engine], "POST", path, {**body, "stream": True}))
        parts = [
            choice.get("text") or choice.get("delta", {}).get("content", "")
            for event in events
            for choice in event["choices"]
        ]
        text = whole.get("text") or whole["message"]["content"]
        assert "".join(parts) == text == " the model that still answers "


def test_a_stopped_answer_takes_less_time_than_a_full_one(ports: dict[EngineType, int]) -> None:
    body = {"prompt": "one", "max_tokens": 200}
    full = min(ask(ports[EngineType.VLLM], "POST", "/v1/completions", body).seconds for _ in range(3))
    stopped = ask(ports[EngineType.VLLM], "POST", "/v1/completions", {**body, "stop": "model"})
    assert json_of(stopped)["usage"]["completion_tokens"] == 2
    assert stopped.seconds < full / 4


def test_echo_repeats_the_prompt_before_the_text(ports: dict[EngineType, int]) -> None:
    body = {"prompt": "Say: ", "max_tokens": 2, "echo": True}
    choices = json_of(ask(ports[EngineType.VLLM], "POST", "/v1/completions", body))["choices"]
    assert [choice["text"] for choice in choices] == ["Say:  the model"]


def test_a_chat_answer_without_a_maximum_fills_the_context(ports: dict[EngineType, int]) -> None:
    body = {"messages": [{"role": "user", "content": "one " * 2000}]}
    usage = json_of(ask(ports[EngineType.TEXT_GENERATION_INFERENCE], "POST", "/v1/chat/completions", body))["usage"]
    assert usage["total_tokens"] == 2048


def test_text_generation_inference_ignores_the_model_and_says_its_sizes_in_headers(
    ports: dict[EngineType, int],
) -> None:
    port = ports[EngineType.TEXT_GENERATION_INFERENCE]
    reply = ask(port, "POST", "/v1/completions", {"model": "whatever", "prompt": "one two", "max_tokens": 3, "n": 4})
    assert len(json_of(reply)["choices"]) == 1
    assert (reply.headers["x-prompt-tokens"], reply.headers["x-generated-tokens"]) == ("2", "3")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/chat/completions", {}, "messages: expected"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages.0.role"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "type text"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "u", "content": "x"}], "tool_choice": "required"},
            "tool_choice",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "u", "content": "x"}], "top_logprobs": 2}, "top_logprobs"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "u", "content": "x"}], "logprobs": 2},
            "logprobs: expected true",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "u", "content": "x"}], "max_completion_tokens": 0}, "max_com"),
    ],
)
@pytest.mark.parametrize("engine", list(FILES.values()))
def test_what_cannot_be_read_is_refused_in_the_engines_own_words(
    ports: dict[EngineType, int], engine: EngineType, path: str, body: object, says: str
) -> None:
    reply = ask(ports[engine], "POST", path, body)
    assert reply.status == (400 if engine is EngineType.VLLM else 422)
    message = json_of(reply)["error"]["message"] if engine is EngineType.VLLM else json_of(reply)["error"]
    assert says in message
