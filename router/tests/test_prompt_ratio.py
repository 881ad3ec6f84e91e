"""How many characters make a token: learned from engines' own counts, whatever they claim."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bes_router.prompt_ratio import (
    CHARACTERS_PER_TOKEN,
    EVERY,
    EVERY_ONE,
    LEAST,
    MOST,
    SHORT_CHARACTERS,
    TAIL_BYTES,
    PromptRatio,
    prompt_tokens,
)

USAGE = {"prompt_tokens": 123, "total_tokens": 139, "completion_tokens": 16, "prompt_tokens_details": None}


def test_the_count_is_found_in_the_tail_of_an_answer_and_of_a_stream() -> None:
    answer = {"id": "cmpl-1", "choices": [{"text": "x" * 2000}], "usage": USAGE, "kv_transfer_params": None}
    for body in (orjson.dumps(answer), orjson.dumps(answer, option=orjson.OPT_INDENT_2)):
        assert prompt_tokens(body[-TAIL_BYTES:]) == 123
    stream = b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps({"choices": [], "usage": USAGE})
    assert prompt_tokens(b"%x\r\n%b\r\n0\r\n\r\n" % (len(stream), stream)) == 123


@pytest.mark.parametrize("cut", range(1, 56))
def test_a_count_is_found_wherever_chunks_cut_it(cut: int) -> None:
    stream = b'{"usage":{"prompt_tokens":12345,"total_tokens":12346}}\n\n'
    first, second = stream[:cut], stream[cut:]
    assert prompt_tokens(b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(first), first, len(second), second)) == 12345


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b'data: {"choices": [], "usage": null}\n\n',
        b'"usage": {"prompt_tokens": -5}',
        b'"usage": {"prompt_tokens": 5.5}',
        b'"usage": {"prompt_tokens": 99999999999}',
        b'"usage": {"prompt_tokens_details": 5}',
        orjson.dumps({"choices": [{"text": '"usage": {"prompt_tokens": 5}'}]}),
        b"\x1f\x8b\x08\x00compressed",
    ],
)
def test_what_is_no_count_says_nothing(tail: bytes) -> None:
    assert prompt_tokens(tail) is None


@given(st.binary(max_size=600))
def test_no_tail_is_too_strange(tail: bytes) -> None:
    assert prompt_tokens(tail) is None
    assert prompt_tokens(b'"usage":{' + tail + b'"prompt_tokens":7}') in {None, 7}


def test_it_starts_at_four_and_follows_what_engines_count() -> None:
    ratio = PromptRatio()
    assert ratio.value == CHARACTERS_PER_TOKEN
    for number in range(60):
        ratio.learn(300 + 40 * (number % 5), 100 + 13 * (number % 5))
    assert ratio.value == pytest.approx(3.0, rel=0.05)
    for _ in range(60):
        ratio.learn(500, 100)
    assert ratio.value == pytest.approx(5.0, rel=0.05)


def test_short_prompts_teach_nothing() -> None:
    ratio = PromptRatio()
    for _ in range(100):
        ratio.learn(SHORT_CHARACTERS - 1, 1)
    assert ratio.value == CHARACTERS_PER_TOKEN


def test_one_lie_moves_it_little_and_the_longest_prompt_weighs_no_more_than_a_long_one() -> None:
    ratio = PromptRatio()
    for _ in range(30):
        ratio.learn(400, 100)
    ratio.learn(400, 1)
    assert ratio.value < 4.4
    ratio.learn(4_000_000, 999_999_999)
    for _ in range(100):
        ratio.learn(16_384, 4096)
    assert ratio.value == pytest.approx(4.0, rel=0.05)


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40)), max_size=50))
def test_whatever_engines_say_it_stays_between_its_bounds(said: list[tuple[int, int]]) -> None:
    ratio = PromptRatio()
    for characters, tokens in said:
        ratio.learn(characters, tokens)
        assert LEAST <= ratio.value <= MOST


def test_the_first_answers_are_all_read_and_then_one_in_a_few() -> None:
    ratio = PromptRatio()
    assert all(ratio.wants() for _ in range(EVERY_ONE))
    assert sum(ratio.wants() for _ in range(10 * EVERY)) == 10
