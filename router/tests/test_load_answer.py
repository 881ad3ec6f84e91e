"""The question to Prometheus and its answer: what makes no sense leaves an engine unknown and never breaks anything."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from load_rig import scraped, series, target

from bes_router.errors import FiguresError
from bes_router.load.answer import Figure, read_answer
from bes_router.load.question import MAX_QUERY_BYTES, question_about

ENGINES = [target(0, 1), target(1, 2)]
QUESTION = question_about(ENGINES, {}, "instance")
A, B = "127.0.0.1:1", "127.0.0.1:2"


def test_every_name_is_asked_once_for_all_engines_with_value_and_stamp() -> None:
    other = target(2, 3, ("tgi_batch_current_size", "tgi_queue_size"), "tgi_request_success")
    question = question_about([*ENGINES, other], {"namespace": 'a"b\\'}, "pod")
    names = ("running", "waiting", "done", "tgi_batch_current_size", "tgi_queue_size", "tgi_request_success")
    assert question.names == names
    for i, name in enumerate(names):
        selector = name + r'{namespace="a\"b\\",pod=~"127\\.0\\.0\\.1:1|127\\.0\\.0\\.1:2|127\\.0\\.0\\.1:3"}'
        assert question.query.count(f'label_replace({selector},"bes_part","value:{i}","","")') == 1
        assert question.query.count(f'label_replace(timestamp({selector}),"bes_part","stamp:{i}","","")') == 1


def test_a_query_that_would_be_too_long_leaves_the_choice_to_the_matchers() -> None:
    many = [target(i, 10_000 + i) for i in range(500)]
    question = question_about(many, {"namespace": "a"}, "pod")
    assert 'running{namespace="a",pod!=""}' in question.query
    assert len(question.query) < MAX_QUERY_BYTES


def test_figures_are_summed_over_gauges_and_go_with_their_stamp() -> None:
    answer = read_answer([*scraped(A, 999.5, 3, 4, 70), *scraped(B, 998.25, 1, 0, 9)], QUESTION)
    assert answer.evaluated_at == 1000.0
    assert answer.figures == {0: Figure(999.5, 7.0, 70.0), 1: Figure(998.25, 1.0, 9.0)}


def test_series_of_one_scrape_add_up_and_older_ones_are_left_out() -> None:
    result = [
        *scraped(A, 999.0, 3, 4, 70, engine="0"),
        *scraped(A, 999.0, 1, 1, 30, engine="1"),
        *scraped(A, 900.0, 50, 50, 1, pod="before"),
    ]
    assert read_answer(result, QUESTION).figures == {0: Figure(999.0, 9.0, 100.0)}


def test_nonsense_of_a_worker_counts_while_it_is_among_the_newest_and_no_longer() -> None:
    for bad in (float("nan"), -1.0):
        same = [*scraped(A, 999.0, 3, 4, engine="0"), *scraped(A, 999.0, bad, 1, engine="1")]
        assert read_answer(same, QUESTION).figures == {}
        assert read_answer(same[::-1], QUESTION).figures == {}
        older = [*scraped(A, 900.0, bad, 1, pod="before"), *scraped(A, 999.0, 3, 4)]
        assert read_answer(older, QUESTION).figures == {0: Figure(999.0, 7.0, None)}
        assert read_answer(older[::-1], QUESTION).figures == {0: Figure(999.0, 7.0, None)}


def test_a_counter_of_another_scrape_is_no_counter_of_this_one() -> None:
    result = scraped(A, 999.0, 3, 4)
    result += [series("value:2", A, "70"), series("stamp:2", A, "990.0")]
    assert read_answer(result, QUESTION).figures == {0: Figure(999.0, 7.0, None)}
    assert read_answer(scraped(A, 999.0, 3, 4), QUESTION).figures == {0: Figure(999.0, 7.0, None)}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "x", "", "9" * 70])
def test_a_value_that_is_no_count_leaves_its_engine_unknown_and_no_other(value: str) -> None:
    result = [
        *scraped(B, 999.0, 1, 0),
        series("value:0", A, value),
        series("stamp:0", A, "999.0"),
        *scraped(A, 999.0, 1)[:0],
        series("value:1", A, "2"),
        series("stamp:1", A, "999.0"),
    ]
    assert read_answer(result, QUESTION).figures == {1: Figure(999.0, 1.0, None)}


@pytest.mark.parametrize("stamp", ["1000.5", "-1", "NaN", "+Inf", "1e300"])
def test_a_stamp_of_the_future_or_of_no_time_leaves_its_engine_unknown(stamp: str) -> None:
    result = scraped(A, 999.0, 1, 2)
    result[1] = series("stamp:0", A, stamp)
    assert read_answer(result, QUESTION).figures == {}


def test_a_value_without_its_stamp_and_a_gauge_that_is_missing_are_unknown() -> None:
    assert read_answer(scraped(A, 999.0, 1, 2)[:3], QUESTION).figures == {}
    assert read_answer(scraped(A, 999.0, 1), QUESTION).figures == {}


def test_series_of_strangers_do_not_matter() -> None:
    result = [*scraped(A, 999.0, 1, 2), *scraped("127.0.0.1:9", 999.0, 1, 2), series("value:77", A, "1")]
    result += [series("value:0", A, "5", label="pod"), series("", A, "5"), series("other", A, "5")]
    assert read_answer(result, QUESTION).figures == {0: Figure(999.0, 3.0, None)}


def test_nothing_is_an_answer_without_a_clock() -> None:
    answer = read_answer([], QUESTION)
    assert (answer.evaluated_at, answer.figures) == (None, {})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "NoneType where a list"),
        ({}, "dict where a list"),
        ([1], "no series"),
        ([{"metric": {}}], "no series"),
        ([{"metric": [], "value": [1, "2"]}], "no series"),
        ([{"metric": {}, "value": [1, 2]}], "no series"),
        ([{"metric": {}, "value": [1, "2", 3]}], "no series"),
        ([{"metric": {}, "value": [True, "2"]}], "instant True"),
        ([{"metric": {}, "value": [float("nan"), "2"]}], "instant nan"),
        ([{"metric": {"a": 1}, "value": [1, "2"]}], "labels that are no strings"),
        ([series("value:0", A, "1", at=1.0), series("value:0", A, "1", at=2.0)], "several instants"),
        ([series("value:0", A, "1")] * 600, "600 series for 2 backends: narrow"),
    ],
)
def test_what_is_no_answer_is_refused_as_a_whole(result: object, message: str) -> None:
    with pytest.raises(FiguresError, match=re.escape(message)):
        read_answer(result, QUESTION)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
numbers = st.sampled_from(["0", "1", "2.5", "-1", "NaN", "+Inf", "x", "999.0", "998.5", "1000", "1001"])
nearly_series = st.builds(
    lambda part, join, value, at: {"metric": {"bes_part": part, "instance": join}, "value": [at, value]},
    st.sampled_from(["value:0", "stamp:0", "value:1", "stamp:1", "value:2", "stamp:2", "value:9", "value", ":"]),
    st.sampled_from([A, B, "", "other"]),
    numbers,
    st.sampled_from([1000, 1000.0]),
)


@given(json_values | st.lists(nearly_series | json_values, max_size=12) | st.lists(nearly_series, max_size=16))
@settings(max_examples=300)
def test_any_json_is_read_or_refused_and_what_is_read_is_a_count(result: object) -> None:
    try:
        answer = read_answer(result, QUESTION)
    except FiguresError:
        return
    for figure in answer.figures.values():
        assert 0.0 <= figure.in_flight < float("inf")
        assert answer.evaluated_at is not None
        assert 0.0 <= figure.stamp <= answer.evaluated_at + 0.001
