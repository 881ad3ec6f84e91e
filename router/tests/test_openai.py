"""Bodies of /v1/completions: what they ask for, and that only the model's value ever changes."""

import json
import string
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_router.errors import RefusedRequestError
from bes_router.openai import error_body, model_list, parse_completion, spliced

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
    """A valid body in some spelling of JSON, and what it says."""
    members = draw(st.dictionaries(TEXT.filter(lambda key: key not in RESERVED), VALUES, max_size=4))
    members["prompt"] = draw(TEXT)
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


RESERVED = {"model", "prompt", "max_tokens", "stream"}


@given(bodies())
def test_a_splice_changes_the_model_and_leaves_every_other_byte(sample: tuple[bytes, dict[str, Any]]) -> None:
    body, members = sample
    request = parse_completion(body)
    assert request.model == members.get("model")
    result = spliced(body, request, SERVED)
    assert orjson.loads(result) == {**members, "model": "org/large"}
    if "model" in members:
        assert result[: request.model_start] == body[: request.model_start]
        assert result[request.model_start + len(SERVED) :] == body[request.model_end :]
        assert json.loads(body[request.model_start : request.model_end]) == members["model"]
    else:
        assert result.replace(b'"model":"org/large",', b"", 1) == body


@given(st.binary(max_size=60) | VALUES.map(orjson.dumps))
def test_any_body_is_understood_or_refused_with_400(body: bytes) -> None:
    try:
        request = parse_completion(body)
    except RefusedRequestError as error:
        assert error.status == 400  # noqa: PT017 - most bodies of this test are fine
        return
    assert orjson.loads(spliced(body, request, SERVED))["model"] == "org/large"


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


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("", 1),
        ("x" * 400, 100),
        ("é" * 400, 100),
        (["x" * 40, "y" * 80], 30),
        ([5, 6, 7], 3),
        ([[1, 2], [3, 4, 5]], 5),
    ],
)
def test_prompt_tokens_are_counted_or_guessed_and_prompts_add_up(prompt: object, tokens: int) -> None:
    request = parse_completion(json.dumps({"prompt": prompt}).encode())
    assert (request.prompt_tokens, request.output_tokens, request.stream) == (tokens, 16, False)


def test_max_tokens_and_stream_are_read() -> None:
    request = parse_completion(b'{"prompt": "x", "max_tokens": 7, "stream": true}')
    assert (request.output_tokens, request.stream, request.model) == (7, True, None)


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
