"""The client's words over real sockets: chats, pins, tasks and deadlines in the head, usage, explained decisions."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router_rig import (
    STREAM_HEAD,
    AlwaysModel,
    Asked,
    Behaviour,
    Engine,
    chunk,
    complete,
    live,
    rig,
    scenario_of_rig,
    stream,
)

from bes_api.router_config import Clients
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.policies import RulePolicy
from bes_router.policy.rules import DEADLINE_AWARE

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def counting(tokens: int, streamed: bool = False) -> Behaviour:
    """An engine that says in `usage` that every prompt has ``tokens``."""
    usage = {"prompt_tokens": tokens, "total_tokens": tokens + 1, "completion_tokens": 1}

    async def answer(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        if streamed:
            last = json.dumps({"choices": [], "usage": usage}).encode()
            writer.write(STREAM_HEAD + chunk(b'data: {"usage": null}\n\n'))
            writer.write(chunk(b"data: %b\n\n" % last) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            body = json.dumps({"choices": [{"text": "x" * 900}], "usage": usage}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    return answer


@live
async def test_a_chat_is_relayed_to_the_chat_path_and_only_the_model_is_spliced() -> None:
    async with rig() as it:
        body = (
            b'{ "messages" : [{"role":"user","content":"caf\xc3\xa9 \\"model\\""}], "model" :"trivia", "top_k": 0.10 }'
        )
        answer = await it.ask(body, path=CHAT)
        assert (answer.status, answer.fields["x-bes-task"]) == (200, "trivia")
        asked = it.engines[0].asked[0]
        assert asked.line == "POST /v1/chat/completions HTTP/1.1"
        assert asked.body == body.replace(b'"trivia"', b'"org/large"')


@live
async def test_a_chat_is_streamed() -> None:
    async with rig(stream) as it:
        answer = await it.ask({"messages": MESSAGES, "stream": True, "tools": [{"type": "function"}]}, path=CHAT)
        assert (answer.status, answer.body.count(b"data: ")) == (200, 4)
        assert it.engines[0].asked[0].json == {
            "messages": MESSAGES,
            "stream": True,
            "tools": [{"type": "function"}],
            "model": "org/large",
        }


@live
async def test_a_completion_on_the_chat_path_and_a_get_are_told_what_is_wrong() -> None:
    async with rig() as it:
        client = await it.client()
        client.post({"prompt": "x"}, path=CHAT)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["param"]) == (400, "messages")
        client.get(CHAT)
        assert (await client.answer()).status == 405
        assert it.engines[0].asked == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["content", "type", "text"]), inner),
    max_leaves=6,
)


@given(
    bodies=st.lists(st.fixed_dictionaries({"messages": VALUES}, optional={"n": VALUES, "model": VALUES}), max_size=20)
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_chat_is_the_connection_goes_on(bodies: list[dict[str, Any]]) -> None:
    @live
    async def check() -> None:
        async with rig() as it:
            client = await it.client()
            for body in [*bodies, {"messages": MESSAGES}]:
                client.post(body, path=CHAT)
                answer = await client.answer()
                assert answer.status in {200, 400, 404}
                if answer.status == 400:
                    assert answer.json["error"]["param"] in {"messages", "model", "n"}
            assert answer.status == 200
            assert it.own == [0.0, 0.0]

    check()


@live
async def test_the_header_names_the_task_and_stays_here() -> None:
    async with rig() as it:
        answer = await it.ask({"prompt": "x"}, fields="X-BES-Task: trivia\r\nx-bes-new: 1\r\nx-mine: 2\r\n")
        assert answer.fields["x-bes-task"] == "trivia"
        assert [name for name in it.engines[0].asked[0].fields if name.startswith("x-")] == ["x-mine"]
        assert it.running.router.metrics.tasks[1].in_time == 1


@pytest.mark.parametrize("fields", ["x-bes-task: other\r\n", "x-bes-deadline-ms: soon\r\n", "x-bes-deadline-ms:\r\n"])
def test_a_bad_header_is_a_400_that_names_it(fields: str) -> None:
    @live
    async def check() -> None:
        async with rig() as it:
            client = await it.client()
            client.post({"prompt": "x"}, fields=fields)
            answer = await client.answer()
            assert (answer.status, answer.json["error"]["param"]) == (400, fields.partition(":")[0])
            client.post({"prompt": "x"})
            assert (await client.answer()).status == 200
            assert it.errors() == {"bad_header_field": 1}

    check()


@live
async def test_a_header_that_is_there_twice_is_refused() -> None:
    async with rig() as it:
        answer = await it.ask({"prompt": "x"}, fields="x-bes-task: trivia\r\nX-Bes-Task: chatter\r\n")
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert "x-bes-task" in answer.json["error"]["message"]
        assert it.engines[0].asked == []


async def late(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.1)
    await complete(engine, asked, writer)


@live
async def test_a_deadline_in_the_head_decides_what_counts_as_in_time() -> None:
    async with rig(late) as it:
        figures = it.running.router.metrics.tasks[0]
        assert (await it.ask(fields="x-bes-deadline-ms: 50\r\n")).status == 200
        assert (figures.late, figures.in_time, figures.peak_reward) == (1, 0, 0.8)
        assert (await it.ask(fields="x-bes-deadline-ms: 50000\r\n")).status == 200
        assert (figures.late, figures.in_time, figures.reward) == (1, 1, 0.8)


@live
async def test_a_deadline_is_loosened_only_where_the_resource_allows_it() -> None:
    for clients, late_ones in ((Clients(), 1), (Clients(deadline="Any"), 0)):
        async with rig(late, scenario=scenario_of_rig(full=0.05, zero=0.05), clients=clients) as it:
            assert (await it.ask(fields="x-bes-deadline-ms: 50000\r\n")).status == 200
            assert it.running.router.metrics.tasks[0].late == late_ones


@live
async def test_a_pinned_model_answers_or_nobody() -> None:
    scenario = scenario_of_rig()
    rule = RulePolicy("DeadlineAware", catalogue_of(scenario), DEADLINE_AWARE, 0, [0.0, 0.1])
    async with rig(scenario=scenario, policy=rule, clients=Clients(pin_model=True)) as it:
        client = await it.client()
        client.get("/v1/models")
        assert [each["id"] for each in (await client.answer()).json["data"]] == ["chatter", "trivia", "small", "large"]
        client.post({"prompt": "x", "model": "large"}, fields="x-bes-task: trivia\r\n")
        answer = await client.answer()
        assert (answer.status, answer.fields["x-bes-model"], answer.fields["x-bes-task"]) == (200, "large", "trivia")
        client.post({"prompt": "x", "model": "small"})  # it has no backend
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_backend")
        assert it.running.router.metrics.tasks[0].peak_reward == 0.4  # a pin can earn no more than its model
        client.post({"prompt": [1] * 1020, "max_tokens": 9, "model": "small"})
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
        assert "1024" in answer.json["error"]["message"]


@live
async def test_several_answers_count_as_several_in_flight() -> None:
    release = asyncio.Event()

    async def wait(engine: Engine, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await complete(engine, asked, writer)

    async with rig(wait) as it:
        waiting = asyncio.create_task(it.ask({"prompt": ["a", "b"], "n": 3}))
        while not it.in_flight:
            await asyncio.sleep(0.005)
        assert it.own == [0.0, 6.0]
        release.set()
        assert (await waiting).status == 200
        assert it.own == [0.0, 0.0]


@pytest.mark.parametrize("streamed", [False, True])
def test_prompt_tokens_are_learned_from_what_engines_count(streamed: bool) -> None:
    @live
    async def check() -> None:
        async with rig(counting(200, streamed)) as it:
            client = await it.client()
            for _ in range(20):
                client.post({"prompt": "x" * 400, "stream": streamed})
                answer = await client.answer()
            serving = it.running.router.serving
            assert serving.ratios[0].value < 2.6
            assert serving.ratios[1].value == 4.0  # the other task's own
            found = it.running.ring.explain(answer.fields["x-bes-decision"])
            assert found is not None
            assert 150 < found.prompt_tokens < 200

    check()


@live
async def test_what_is_not_counted_or_not_text_teaches_nothing() -> None:
    async with rig(counting(900)) as it:
        picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}
        await it.ask({"messages": [{"content": [{"type": "text", "text": "x" * 100}, picture]}]}, path=CHAT)
        await it.ask({"prompt": [1] * 500})
        await it.ask({"prompt": "short"})
        assert it.running.router.serving.ratios[0].value == 4.0


@live
async def test_a_chats_template_is_not_taken_for_its_text() -> None:
    async with rig(counting(18)) as it:
        for _ in range(20):
            await it.ask({"messages": [{"role": "user", "content": "x" * 40}] * 2}, path=CHAT)
        assert it.running.router.serving.ratios[0].value == pytest.approx(8.0, rel=0.2)


@live
async def test_every_answer_names_a_decision_that_is_explained() -> None:
    scenario = scenario_of_rig()
    rule = RulePolicy("DeadlineAware", catalogue_of(scenario), DEADLINE_AWARE, 0, [0.0, 0.1])
    async with rig(scenario=scenario, policy=rule) as it:
        answer = await it.ask({"prompt": "secret " * 100, "model": "trivia", "max_tokens": 4})
        name = answer.fields["x-bes-decision"]
        found = it.running.ring.explain(name)
        assert found is not None
        assert (found.id, found.task, found.policy, found.model) == (name, "trivia", "DeadlineAware", "large")
        (only,) = found.weighed
        assert (only.model, only.backend, only.chosen) == ("large", "large/0", True)
        assert only.predicted_finish_seconds > 0.0
        assert "secret" not in found.model_dump_json()
        later = await it.ask()
        assert later.fields["x-bes-decision"] != name
        assert it.running.ring.explain("0-1") is None


@live
async def test_a_retried_request_names_the_decision_before() -> None:
    async def die(_: Engine, __: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    scenario = scenario_of_rig(replicas=2)
    async with rig(die, complete, scenario=scenario, policy=AlwaysModel(scenario, 1)) as it:
        answer = await it.ask()
        assert answer.status == 200
        found = it.running.ring.explain(answer.fields["x-bes-decision"].partition(";")[0])
        assert found is not None
        assert found.backend == "large/1"
        assert found.retried_from is not None
        before = it.running.ring.explain(found.retried_from)
        assert before is not None
        assert (before.backend, before.retried_from) == ("large/0", None)
