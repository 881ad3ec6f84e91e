"""What an emulated engine reads of a request, and the text that it writes: properties, without sockets."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_lab.engine.dialect import Dialect, Identity
from bes_lab.engine.filler import guesses, start_of, written
from bes_lab.engine.request import Limits, RefusedError, parse
from bes_lab.engine.tgi_dialect import TGIDialect
from bes_lab.engine.vllm_dialect import VLLMDialect

LIMITS = Limits("small", 2048, 60_000, 64)
DIALECTS: tuple[Dialect, ...] = (VLLMDialect(), TGIDialect())
FIELDS = (
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options", "n", "stop",
    "seed", "logprobs", "top_logprobs", "echo", "suffix", "best_of", "tool_choice", "response_format",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "include_usage"]), inner, max_size=4)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(document=DOCUMENTS | VALUES, chat=st.booleans())
def test_any_document_is_read_or_refused_and_its_answer_can_be_written(
    dialect: Dialect, document: Any, chat: bool
) -> None:
    try:
        wanted = parse(json.dumps(document).encode(), chat=chat, rules=dialect.rules, limits=LIMITS)
    except RefusedError as refusal:
        reply = dialect.error(refusal.case, str(refusal), refusal.kind)
        assert 400 <= reply.status < 500
        assert "error" in json.loads(reply.body)
        return
    assert len(wanted.choices) == wanted.choices_per_prompt * len(wanted.prompts)
    assert max(wanted.prompts) + max(choice.tokens for choice in wanted.choices) <= LIMITS.context_tokens
    if wanted.generated > 500:
        return  # a chat answer that fills the context: the same code, only longer
    identity = Identity("id", 1, "small")
    assert len(json.loads(dialect.whole(identity, wanted))["choices"]) == len(wanted.choices)
    streamed = b"".join(
        dialect.tokens(identity, wanted, index, 0, choice.tokens) for index, choice in enumerate(wanted.choices)
    )
    *events, done, rest = (streamed + dialect.closing(identity, wanted)).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert all(json.loads(event.removeprefix(b"data: "))["object"] for event in events)


@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    for dialect in DIALECTS:
        with contextlib.suppress(RefusedError):
            assert parse(body, chat=False, rules=dialect.rules, limits=LIMITS).prompts


STOPS = st.lists(st.sampled_from([" is", "in time", "e", "worth nothing; the", "nowhere", " "]), max_size=3)


@given(seed=st.none() | st.integers(), choice=st.integers(0, 5), most=st.integers(1, 80), stops=STOPS)
def test_the_pieces_of_a_text_are_the_text_and_a_stop_string_never_stands_in_it(
    seed: int | None, choice: int, most: int, stops: list[str]
) -> None:
    output = written(start_of(seed, choice), most, tuple(stops))
    assert "".join(output.piece(token) for token in range(output.tokens)) == output.text
    assert 1 <= output.tokens <= most
    assert all(stop not in output.text for stop in stops)
    whole = written(start_of(seed, choice), most, ())
    assert whole.offset(most) == len(whole.text)
    assert whole.text.startswith(output.text)
    assert (output.stop is None) == (not any(stop in whole.text for stop in stops))


@given(seed=st.integers(), token=st.integers(0, 50), alternatives=st.integers(0, 5))
def test_the_written_token_is_the_most_probable_one(seed: int, token: int, alternatives: int) -> None:
    output = written(start_of(seed, 0), 51, ())
    found = guesses(output, token, alternatives)
    assert found[0].token == output.piece(token)
    assert [guess.logprob for guess in found] == sorted((guess.logprob for guess in found), reverse=True)
    assert all(guess.logprob < 0 for guess in found)
    assert found == guesses(output, token, alternatives)
