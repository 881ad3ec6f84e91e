"""What a client's words mean: tasks, pins, deadlines of its own, and several answers at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_scenarios import opt_scenario

from bes_api.router_config import Clients, RouterConfig, StaticPolicy
from bes_api.scenario import Scenario
from bes_router.bodies import Asked, parse_chat, parse_completion
from bes_router.errors import MalformedMessageError, Reason, RefusedRequestError
from bes_router.http1 import RequestHead, parse_request_head
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import RoutingRequest
from bes_router.words import Vocabulary, Words

NOW = 50.0
PATH = b"/v1/completions"


def vocabulary(scenario: Scenario | None = None, **clients: object) -> Vocabulary:
    scenario = scenario or opt_scenario()
    config = RouterConfig(
        service="opt",
        scenario=scenario,
        policy=StaticPolicy(model=scenario.models[0].name),
        clients=Clients.model_validate(clients),
    )
    return Vocabulary(config, catalogue_of(scenario))


def head(**fields: str) -> RequestHead:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return parse_request_head(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())


def asked(**body: object) -> Asked:
    return parse_completion(json.dumps({"prompt": "x" * 400, **body}).encode())


def read(where: Vocabulary, of: Asked | None = None, **fields: str) -> Words:
    return where.read(of or asked(), PATH, head(**fields))


def routing(where: Vocabulary, of: Asked | None = None, **fields: str) -> RoutingRequest:
    return where.routing(read(where, of, **fields), 4.0, NOW)


def refused(where: Vocabulary, of: Asked | None = None, **fields: str) -> tuple[int, str | None, str]:
    with pytest.raises(RefusedRequestError) as caught:
        read(where, of, **fields)
    return caught.value.status, caught.value.param, str(caught.value)


def test_model_or_header_names_the_task() -> None:
    where = vocabulary()
    assert [read(where, asked(model=name)).task for name in (None, "", "opt", "hard", "soft")] == [0, 0, 0, 0, 1]
    assert read(where, x_bes_task="soft").task == 1
    assert read(where, asked(model="opt"), x_bes_task="soft").task == 1
    assert read(where, asked(model="soft"), x_bes_task="soft").task == 1


def test_header_and_model_that_name_different_tasks_are_refused() -> None:
    status, param, message = refused(vocabulary(), asked(model="hard"), x_bes_task="soft")
    assert (status, param) == (400, "x-bes-task")
    assert "'soft'" in message
    assert "'hard'" in message


@pytest.mark.parametrize("name", ["other", "", "HARD", "opt-125m", "s\xf6ft"])
def test_a_header_that_names_no_task_is_a_400_naming_it(name: str) -> None:
    status, param, message = refused(vocabulary(), x_bes_task=name)
    assert (status, param) == (400, "x-bes-task")
    assert "hard, soft" in message


def test_a_model_is_pinned_only_where_the_resource_allows_it() -> None:
    closed, open_ = vocabulary(), vocabulary(pin_model=True)
    status, param, message = refused(closed, asked(model="opt-6.7b"))
    assert (status, param) == (404, "model")
    assert "router.clients.pinModel" in message
    assert routing(open_, asked(model="opt-6.7b")).pinned == 2
    pinned = routing(open_, asked(model="opt-1.3b"), x_bes_task="soft")
    assert (pinned.pinned, pinned.task) == (1, 1)
    assert refused(open_, asked(model="gpt-4"))[:2] == (404, "model")
    assert closed.listed == ["hard", "soft"]
    assert open_.listed == ["hard", "soft", "opt-125m", "opt-1.3b", "opt-6.7b"]


def test_a_pin_to_a_model_that_does_not_serve_the_task_says_so() -> None:
    scenario = opt_scenario()
    hard = scenario.tasks[0].model_copy(update={"quality": {"opt-125m": 0.5}})
    where = vocabulary(scenario.model_copy(update={"tasks": (hard, scenario.tasks[1])}), pin_model=True)
    status, param, message = refused(where, asked(model="opt-6.7b"))
    assert (status, param) == (404, "model")
    assert "x-bes-task" in message
    assert read(where, asked(model="opt-6.7b"), x_bes_task="soft").pinned == 2


def test_a_deadline_is_tightened_in_proportion_and_loosened_only_where_allowed() -> None:
    tighten, any_ = vocabulary(), vocabulary(deadline="Any")
    for where in (tighten, any_):
        hard = routing(where, x_bes_deadline_ms="150")
        assert (hard.full_until, hard.zero_from) == (NOW + 0.15, NOW + 0.15)
        soft = routing(where, asked(model="soft"), x_bes_deadline_ms="1000")
        assert soft.full_until == pytest.approx(NOW + 0.3)
        assert soft.zero_from == NOW + 1.0
    assert routing(tighten, x_bes_deadline_ms="60000").zero_from == NOW + 0.6
    assert routing(any_, x_bes_deadline_ms="60000").zero_from == NOW + 60.0
    assert routing(tighten).zero_from == NOW + 0.6


@given(st.integers(1, 86_400_000), st.floats(1e-3, 1e3))
def test_a_hard_deadline_stays_hard_and_nothing_is_worth_less_before_more(milliseconds: int, seconds: float) -> None:
    scenario = opt_scenario()
    hard = scenario.tasks[0].model_copy(update={"full_until_seconds": seconds, "zero_from_seconds": seconds})
    where = vocabulary(scenario.model_copy(update={"tasks": (hard, scenario.tasks[1])}), deadline="Any")
    found = routing(where, x_bes_deadline_ms=str(milliseconds))
    assert NOW < found.full_until <= found.zero_from
    assert found.zero_from - found.full_until < 1e-9


@pytest.mark.parametrize("value", ["", "0", "-5", "+5", "1.5", "1e3", "5 ms", "86400001", "9" * 30, "five", "\xb2"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_a_400_naming_it(value: str) -> None:
    status, param, message = refused(vocabulary(), x_bes_deadline_ms=value)
    assert (status, param) == (400, "x-bes-deadline-ms")
    assert "milliseconds" in message


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12), st.sampled_from(["task", "deadline-ms"])
)
def test_any_value_of_our_fields_is_understood_or_refused_with_400(value: str, name: str) -> None:
    try:
        words = vocabulary().read(asked(), PATH, head(**{f"x-bes-{name}": value}))
    except RefusedRequestError as error:
        assert (error.status, error.reason, error.param) == (400, Reason.BAD_FIELD, f"x-bes-{name}")  # noqa: PT017
        return
    assert words.task in {0, 1}
    assert 0.0 <= words.deadline_seconds <= 86_400.0


def test_our_fields_stay_here_and_come_once() -> None:
    found = head(x_bes_task="soft", X_BES_Deadline_MS="5", x_bes_other="1", x_request_id="7")
    assert found.forwarded == b"x-request-id: 7\r\n"
    assert found.own == {b"x-bes-task": b"soft", b"x-bes-deadline-ms": b"5", b"x-bes-other": b"1"}
    with pytest.raises(MalformedMessageError, match="x-bes-task is there twice"):
        parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nx-bes-task: a\r\nX-Bes-Task: a\r\n\r\n")


def test_prompt_tokens_follow_the_tasks_ratio_and_what_was_counted() -> None:
    where = vocabulary()
    words = read(where)
    assert [where.routing(words, ratio, NOW).prompt_tokens for ratio in (4.0, 2.0)] == [100, 200]
    assert routing(where, asked(prompt="")).prompt_tokens == 1
    assert routing(where, asked(prompt=[1, 2, 3])).prompt_tokens == 3
    chat = parse_chat(json.dumps({"messages": [{"role": "user", "content": "x" * 40}] * 2}).encode())
    assert routing(where, chat).prompt_tokens == 28


def test_a_chat_without_a_maximum_is_taken_for_a_typical_one() -> None:
    chat = parse_chat(b'{"messages": [{"role": "user", "content": "hello"}]}')
    assert routing(vocabulary(), chat).output_tokens == 16


def test_several_answers_take_longer_but_not_as_long_as_one_after_the_other() -> None:
    where = vocabulary()
    one, many = routing(where, asked(max_tokens=100)), routing(where, asked(max_tokens=100, n=20))
    assert many.prompt_tokens == one.prompt_tokens  # the choices share their prompt
    assert 1.02 * 100 < many.output_tokens < 3 * 100
    assert routing(where, asked(prompt=["x" * 400] * 3)).prompt_tokens == 300


def test_several_answers_never_make_a_model_ineligible_that_each_of_them_fits() -> None:
    where = vocabulary()
    for of in (asked(n=1000, max_tokens=1900), asked(prompt=["x" * 4000] * 50, max_tokens=1000)):
        found = routing(where, of)
        assert found.prompt_tokens + found.output_tokens <= 2048
        assert found.output_tokens >= of.output_tokens
    too_long = routing(where, asked(prompt=["x" * 400, "x" * 9000], max_tokens=16))
    assert too_long.prompt_tokens + too_long.output_tokens > 2048
