"""Bodies of completions and chats: what they ask for, and that only the model's value ever changes."""

import json
import string
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_router.bodies import TOKENS_PER_MESSAGE, UNTIL_IT_STOPS, parse_chat, parse_completion, spliced
from bes_router.errors import RefusedRequestError
from bes_router.openai import error_body, model_list

SERVED = b'"org/large"'
TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["model", '"model"', '"model": "x"', "\\", '"']
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def escaped(text: str) -> str:
    """JSON that writes every character of ``text`` as an escape."""
    return '"' + "".join(f"\\u{ord(each):04x}" for each in text) + '"'


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A valid body of either API in some spelling of JSON, and what it says."""
    members = draw(st.dictionaries(TEXT.filter(lambda key: key not in RESERVED), VALUES, max_size=4))
    if draw(st.booleans()):
        members["prompt"] = draw(TEXT)
    else:
        members["messages"] = draw(CHATS)
    if draw(st.booleans()):
        members["model"] = draw(TEXT | st.none())
    keys = draw(st.permutations(list(members)))
    space = st.text(" \t\r\n", max_size=2)
    ascii_only = draw(st.booleans())
    written = []
    for key in keys:
        name = escaped(key) if draw(st.booleans()) and key.isascii() else json.dumps(key, ensure_ascii=ascii_only)
        value = json.dumps(members[key], ensure_ascii=ascii_only)
        written.append(f"{draw(space)}{name}{draw(space)}:{draw(space)}{value}{draw(space)}")
    body = draw(space) + "{" + ",".join(written) + "}" + draw(space)
    return body.encode(), members


RESERVED = {"model", "prompt", "messages", "stream", "n", "best_of", "max_tokens", "max_completion_tokens", "tools"}
PARTS = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}) | st.fixed_dictionaries(
    {"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": TEXT})}
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "tool"]), "content": TEXT | st.none() | st.lists(PARTS, max_size=3)},
    optional={"name": TEXT, "tool_calls": st.lists(VALUES, max_size=2), "model": TEXT},
)
CHATS = st.lists(MESSAGES, min_size=1, max_size=4)


@given(bodies())
def test_a_splice_changes_the_model_and_leaves_every_other_byte(sample: tuple[bytes, dict[str, Any]]) -> None:
    body, members = sample
    asked = parse_completion(body) if "prompt" in members else parse_chat(body)
    assert asked.model == members.get("model")
    result = spliced(body, asked, SERVED)
    assert orjson.loads(result) == {**members, "model": "org/large"}
    if "model" in members:
        assert result[: asked.model_start] == body[: asked.model_start]
        assert result[asked.model_start + len(SERVED) :] == body[asked.model_end :]
        assert json.loads(body[asked.model_start : asked.model_end]) == members["model"]
    else:
        assert result.replace(b'"model":"org/large",', b"", 1) == body


ANYTHING = VALUES | CHATS | st.dictionaries(st.sampled_from(sorted(RESERVED)), VALUES | CHATS, max_size=4)


@given(st.binary(max_size=60) | ANYTHING.map(orjson.dumps), st.booleans())
def test_any_body_is_understood_or_refused_with_400(body: bytes, chat: bool) -> None:
    try:
        asked = parse_chat(body) if chat else parse_completion(body)
    except RefusedRequestError as error:
        assert error.status == 400  # noqa: PT017 - most bodies of this test are fine
        return
    assert orjson.loads(spliced(body, asked, SERVED))["model"] == "org/large"
    assert asked.sequences >= 1
    assert 0 < asked.longest <= 1
    assert asked.output_tokens == UNTIL_IT_STOPS or asked.output_tokens > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x", "model": 3}, "model"),
        ({"model": "a"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1 << 40}, "max_tokens"),
        ({"prompt": "x", "stream": "yes"}, "stream"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "best_of": "3"}, "best_of"),
        ([], None),
        ("x", None),
    ],
)
def test_a_bad_body_is_refused_by_the_name_of_its_parameter(body: object, param: str | None) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse_completion(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "body", [b'{"model":"a","prompt":"x","model":"a"}', b'{"model":"a","prompt":"","m\\u006fdel":"b"}']
)
def test_a_model_named_twice_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse_completion(body)
    assert caught.value.param == "model"


HELLO = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages"),
        ({"messages": [{"content": 3}]}, "messages"),
        ({"messages": [{"content": {"text": "x"}}]}, "messages"),
        ({"messages": [{"content": ["x"]}]}, "messages"),
        ({"messages": [{"content": [{"type": "text"}]}]}, "messages"),
        ({"messages": [HELLO], "max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"messages": [HELLO], "max_tokens": -1}, "max_tokens"),
        ({"messages": [HELLO], "n": 1.5}, "n"),
        ({"messages": [HELLO], "n": 1 << 20}, "n"),
        ({"messages": [HELLO], "model": []}, "model"),
        ({"messages": [HELLO], "stream": 1}, "stream"),
    ],
)
def test_a_bad_chat_is_refused_by_the_name_of_its_parameter(body: object, param: str) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse_chat(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("prompt", "characters", "counted", "sequences", "longest"),
    [
        ("", 0, 0, 1, 1.0),
        ("x" * 400, 400, 0, 1, 1.0),
        ("é" * 400, 400, 0, 1, 1.0),
        (["x" * 40, "y" * 120], 160, 0, 2, 0.75),
        (["", ""], 0, 0, 2, 1.0),
        ([5, 6, 7], 0, 3, 1, 1.0),
        ([[1, 2], [3, 4, 5]], 0, 5, 2, 0.6),
    ],
)
def test_prompts_are_counted_and_add_up(
    prompt: object, characters: int, counted: int, sequences: int, longest: float
) -> None:
    asked = parse_completion(json.dumps({"prompt": prompt}).encode())
    assert (asked.characters, asked.counted_tokens, asked.sequences, asked.longest) == (
        characters,
        counted,
        sequences,
        longest,
    )
    assert asked.measurable == (characters > 0)
    assert (asked.output_tokens, asked.stream) == (16, False)


def test_a_chats_text_is_counted_wherever_it_stands() -> None:
    parts = [{"type": "text", "text": "abcd"}, {"type": "text", "text": "ef"}]
    chat = [HELLO, {"role": "assistant", "content": None}, {"role": "user", "content": parts}]
    asked = parse_chat(json.dumps({"messages": chat, "max_tokens": 5, "max_completion_tokens": 9, "n": 3}).encode())
    assert (asked.characters, asked.counted_tokens) == (11, 3 * TOKENS_PER_MESSAGE)
    assert (asked.output_tokens, asked.sequences, asked.measurable) == (9, 3, True)


def test_a_chat_without_a_maximum_goes_on_until_the_model_stops() -> None:
    assert parse_chat(json.dumps({"messages": [HELLO]}).encode()).output_tokens == UNTIL_IT_STOPS
    assert parse_chat(json.dumps({"messages": [HELLO], "max_tokens": 5}).encode()).output_tokens == 5


def test_pictures_are_not_text_and_tools_are_part_of_the_prompt() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    shown = parse_chat(json.dumps({"messages": [{"content": [picture, {"type": "text", "text": "ab"}]}]}).encode())
    assert (shown.characters, shown.measurable) == (2, False)
    tools = [{"type": "function", "function": {"name": "look", "description": "d" * 100}}]
    helped = parse_chat(json.dumps({"messages": [HELLO], "tools": tools}).encode())
    assert helped.characters > 105
    assert not helped.measurable  # how a template writes them is not known


@pytest.mark.parametrize("depth", [100, 300, 1000, 100_000])
@pytest.mark.parametrize("place", [b'{"messages":[{}],"tools":[%b]}', b'{"messages":[{"tool_calls":[%b]}]}'])
def test_any_depth_is_understood_or_refused(depth: int, place: bytes) -> None:
    try:
        assert parse_chat(place % (b"[" * depth + b"]" * depth)).characters > depth
    except RefusedRequestError as error:
        assert (error.status, depth > 100) == (400, True)  # noqa: PT017 - a shallow one is fine


def test_choices_multiply_prompts() -> None:
    asked = parse_completion(json.dumps({"prompt": ["a", "b"], "n": 3, "best_of": 5}).encode())
    assert asked.sequences == 10


def test_max_tokens_and_stream_are_read() -> None:
    asked = parse_completion(b'{"prompt": "x", "max_tokens": 7, "stream": true}')
    assert (asked.output_tokens, asked.stream, asked.model) == (7, True, None)


def test_errors_and_lists_have_openais_shape() -> None:
    assert orjson.loads(error_body(429, "m", "c")) == {
        "error": {"message": "m", "type": "rate_limit_error", "param": None, "code": "c"}
    }
    assert [orjson.loads(error_body(status, "m"))["error"]["type"] for status in (404, 503)] == [
        "invalid_request_error",
        "server_error",
    ]
    listed = orjson.loads(model_list(string.ascii_lowercase[:2], 5))
    assert listed["data"][1] == {"id": "b", "object": "model", "created": 5, "owned_by": "best-effort-serving"}
