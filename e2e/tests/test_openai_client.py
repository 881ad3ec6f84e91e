"""The official `openai` client, unchanged, against the router and an emulated GPU behind it."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from lab_http import WAIT_SECONDS, ask, soon
from lab_scenarios import scenario
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from bes_api.router_config import DirectLoad, StaticPolicy
from bes_lab.engine.process import EngineAddress, EngineAddresses
from bes_lab.local.plan import Plan
from bes_lab.local.service import LocalService

pytestmark = pytest.mark.slow  # every test starts whole processes

MAX_IN_FLIGHT = 32
LONG = 1200
"""Tokens that `small` needs about 1.5 s for."""
SLOW = 100.0
"""So many times as slow, they take minutes: nothing ends by itself while a test looks on."""
HELLO: Sequence[ChatCompletionMessageParam] = ({"role": "user", "content": "how far can one act now"},)


class Running:
    """Tasks `hard` and `soft`, models `small` and `large`; everything goes to `small`."""

    def __init__(self, service: LocalService, engines: tuple[EngineAddress, ...]) -> None:
        self.service = service
        self.url = f"{service.url}/v1"
        self._engines = engines

    def client(self, retries: int = 0, timeout: float = WAIT_SECONDS) -> OpenAI:
        return OpenAI(base_url=self.url, api_key="none", max_retries=retries, timeout=timeout)

    def asynchronous(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=WAIT_SECONDS)

    def sum_of(self, text: str, metric: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith(metric)]
        assert lines, metric
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def holds(self) -> float:
        """Requests that the router and the engines hold."""
        pages = [ask(engine.port, "GET", "/metrics").body.decode() for engine in self._engines]
        running = sum(self.sum_of(page, "vllm:num_requests_running") for page in pages)
        waiting = sum(self.sum_of(page, "vllm:num_requests_waiting") for page in pages)
        return self.sum_of(self.service.metrics(), "bes_router_in_flight{") + running + waiting

    def idle(self) -> bool:
        """Whether nothing is left of any request, soon."""
        return soon(lambda: self.holds() == 0)

    def misbehave(self, **fault: object) -> None:
        for engine in self._engines:
            assert ask(engine.port, "POST", "/emulated/fault", fault).status < 300

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """The engines take `SLOW` times as long."""
        self.misbehave(kind="slow", factor=SLOW)
        try:
            yield
        finally:
            self.behave()

    def behave(self) -> None:
        for engine in self._engines:
            assert ask(engine.port, "DELETE", "/emulated/fault").status < 300


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("service")
    static = StaticPolicy(model="small")
    few = scenario().model_copy(update={"max_in_flight": MAX_IN_FLIGHT})
    with LocalService(Plan("own", few, static, static, DirectLoad(interval_seconds=0.2), folder)) as service:
        yield Running(service, EngineAddresses.read(folder / "gpu-0.json").engines)


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[OpenAI]:
    with running.client() as made:
        yield made


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    assert {"hard", "soft"} <= {each.id for each in client.models.list()}
    assert client.models.retrieve("soft").owned_by == "best-effort-serving"
    with pytest.raises(openai.NotFoundError, match="nothing-like-it"):
        client.models.retrieve("nothing-like-it")


def test_a_completion_names_the_model_that_answered_and_counts_its_tokens(client: OpenAI) -> None:
    answer = client.completions.create(model="hard", prompt="one two three", max_tokens=5)
    assert answer.model == "small"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)


def test_a_task_is_named_as_the_model_or_in_a_header_and_the_answer_explains_itself(client: OpenAI) -> None:
    raw = client.completions.with_raw_response.create(
        model="", prompt="one", max_tokens=1, extra_headers={"x-bes-task": "soft"}
    )
    assert raw.headers["x-bes-task"] == "soft"
    assert raw.headers["x-bes-model"] == raw.parse().model == "small"
    assert raw.headers["x-bes-decision"]


def test_several_prompts_choices_and_probabilities_come_through(client: OpenAI) -> None:
    answer = client.completions.create(model="hard", prompt=["one", "two three"], max_tokens=4, n=2, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_a_stop_string_ends_the_answer_and_a_seed_repeats_it(client: OpenAI) -> None:
    def text(seed: int, stop: str | None = None) -> str:
        return (
            client.completions.create(model="hard", prompt="one", max_tokens=12, seed=seed, stop=stop).choices[0].text
        )

    whole = text(7)
    assert text(7) == whole
    assert any(text(seed) != whole for seed in range(5))
    word = whole.split()[3]
    cut = client.completions.create(model="hard", prompt="one", max_tokens=12, seed=7, stop=[word])
    assert cut.choices[0].text == whole.partition(word)[0]
    assert cut.choices[0].finish_reason == "stop"


def test_a_stream_of_a_completion_is_the_same_text_with_its_usage_at_the_end(client: OpenAI) -> None:
    whole = client.completions.create(model="hard", prompt="one two", max_tokens=9, seed=3)
    events = list(
        client.completions.create(
            model="hard", prompt="one two", max_tokens=9, seed=3, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(event.choices[0].text for event in events if event.choices) == whole.choices[0].text
    assert events[-1].choices == []
    assert events[-1].usage == whole.usage
    assert len(events) == 10


def test_without_include_usage_a_stream_has_none(client: OpenAI) -> None:
    events = list(client.completions.create(model="hard", prompt="one", max_tokens=3, stream=True))
    assert [event.usage for event in events] == [None] * 3


def test_chat_answers_with_choices_and_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="soft", messages=HELLO, max_completion_tokens=6, n=2, logprobs=True, top_logprobs=2, seed=1
    )
    assert answer.model == "small"
    assert [choice.message.role for choice in answer.choices] == ["assistant", "assistant"]
    content = answer.choices[0].logprobs
    assert content is not None
    assert content.content is not None
    assert "".join(token.token for token in content.content) == answer.choices[0].message.content
    assert [len(token.top_logprobs) for token in content.content] == [2] * 6


def test_chat_streams_as_the_clients_own_helper_expects_it(client: OpenAI) -> None:
    text = (
        client.chat.completions.create(model="hard", messages=HELLO, max_tokens=8, seed=11).choices[0].message.content
    )
    assert text is not None
    stop = text.split()[5]  # the helper parses whole answers only: it calls one that was cut at its length an error
    with client.chat.completions.stream(
        model="hard", messages=HELLO, max_tokens=8, seed=11, stop=stop, stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == text.partition(stop)[0]
    assert final.usage is not None


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (openai.NotFoundError, lambda c: c.completions.create(model="gpt-nothing", prompt="one")),
        (openai.NotFoundError, lambda c: c.chat.completions.create(model="gpt-nothing", messages=HELLO)),
        (openai.NotFoundError, lambda c: c.embeddings.create(model="hard", input="one")),
        (openai.BadRequestError, lambda c: c.completions.create(model="hard", prompt="one", max_tokens=9000)),
        (openai.BadRequestError, lambda c: c.completions.create(model="hard", prompt=[], max_tokens=1)),
        (openai.BadRequestError, lambda c: c.completions.create(model="hard", prompt="one", max_tokens=-1)),
        (openai.BadRequestError, lambda c: c.chat.completions.create(model="hard", messages=[])),
        (openai.BadRequestError, lambda c: c.completions.create(model="hard", prompt="one", logprobs=5000)),
    ],
)
def test_a_clients_own_fault_is_a_typed_error_that_names_what_is_wrong(
    error: type[openai.APIStatusError], call: Callable[[OpenAI], object], client: OpenAI
) -> None:
    with pytest.raises(error) as raised:
        call(client)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"]
    assert raised.value.body["type"]


def test_too_many_requests_are_a_rate_limit_error_and_retry_after_is_waited_for(running: Running) -> None:
    refused = 'bes_router_errors_total{reason="overloaded"}'

    async def fill(client: AsyncOpenAI, stop: asyncio.Event) -> list[int]:
        """Tokens of one long answer after the other: on a slow machine the first ends before the last is asked for."""
        tokens = []
        while not stop.is_set():
            try:
                answer = await client.completions.create(model="hard", prompt="one", max_tokens=LONG)
            except openai.RateLimitError:  # the test's own short request was in its place
                continue
            tokens.append(answer.usage.completion_tokens if answer.usage else 0)
        return tokens

    async def fill_and_ask() -> tuple[int, float, list[int]]:
        async with running.asynchronous() as client:
            stop = asyncio.Event()
            filling = [asyncio.create_task(fill(client, stop)) for _ in range(MAX_IN_FLIGHT)]
            raised = None
            while raised is None:
                try:
                    await client.completions.create(model="hard", prompt="one", max_tokens=1)
                except openai.RateLimitError as error:
                    raised = error
            before = running.sum_of(running.service.metrics(), refused)
            began = time.monotonic()
            patient = client.with_options(max_retries=20)
            asking = asyncio.create_task(
                patient.completions.with_raw_response.create(model="hard", prompt="one", max_tokens=1)
            )
            while running.sum_of(running.service.metrics(), refused) == before and not asking.done():
                await asyncio.sleep(0.02)
            stop.set()
            turned_away = (await asking).retries_taken
            seconds = time.monotonic() - began
            waits = int(raised.response.headers["retry-after"])
            answers = await asyncio.gather(*filling)
            return waits if turned_away else 0, seconds, [tokens for each in answers for tokens in each]

    for _ in range(5):
        waits, seconds, tokens = asyncio.run(fill_and_ask())
        assert seconds >= waits
        assert set(tokens) == {LONG}
        assert len(tokens) >= MAX_IN_FLIGHT
        assert running.idle()
        if waits:
            return
    pytest.skip("the router was never full when the patient client asked: this machine is too busy")


def test_many_requests_at_once_each_get_their_own_answer(running: Running) -> None:
    async def one(client: AsyncOpenAI, index: int) -> tuple[int, int]:
        stream = await client.completions.create(
            model="soft",
            prompt="one " * (index + 1),
            max_tokens=index % 7 + 2,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [event async for event in stream]
        assert events[-1].usage is not None
        return events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens

    async def all_of_them() -> list[tuple[int, int]]:
        async with running.asynchronous() as client:
            room = asyncio.Semaphore(MAX_IN_FLIGHT)

            async def in_turn(index: int) -> tuple[int, int]:
                async with room:
                    return await one(client, index)

            return await asyncio.gather(*(in_turn(index) for index in range(200)))

    assert asyncio.run(all_of_them()) == [(index + 1, index % 7 + 2) for index in range(200)]
    assert running.idle()


def test_closing_a_stream_frees_the_engine_at_once(running: Running, client: OpenAI) -> None:
    with running.slowly():
        with client.completions.create(model="hard", prompt="one", max_tokens=LONG, stream=True) as stream:
            assert next(iter(stream)).choices
            assert running.holds() > 0
        assert running.idle(), "the engine goes on to the end"


def test_cancelling_an_asynchronous_request_frees_the_engine_at_once(running: Running) -> None:
    async def cancel() -> None:
        async with running.asynchronous() as client:
            task = asyncio.create_task(client.completions.create(model="hard", prompt="one", max_tokens=LONG))
            while running.holds() == 0:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with running.slowly():
        asyncio.run(cancel())
        assert running.idle()


def test_a_timeout_is_the_clients_own_error_and_leaves_nothing_behind(running: Running) -> None:
    with running.slowly():
        with running.client(timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
            client.completions.create(model="hard", prompt="one", max_tokens=LONG)
        assert running.idle()


def test_an_engine_that_fails_is_an_internal_server_error_and_a_retry_finds_it_well(running: Running) -> None:
    running.misbehave(kind="busy", status=503)
    try:
        with running.client() as client, pytest.raises(openai.InternalServerError) as raised:
            client.completions.create(model="hard", prompt="one", max_tokens=2)
        assert raised.value.status_code in {502, 503, 504}
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["message"]
    finally:
        running.behave()
    with running.client(retries=5) as patient:
        assert patient.completions.create(model="hard", prompt="one", max_tokens=2).choices
    assert running.idle()


def test_an_engine_that_dies_inside_a_stream_is_an_error_and_not_an_end(running: Running) -> None:
    running.misbehave(kind="die", after_bytes=900, count=1)
    try:
        with running.client() as client, pytest.raises(openai.APIError):
            for _ in client.completions.create(model="soft", prompt="one", max_tokens=LONG, stream=True):
                pass
    finally:
        running.behave()
    assert running.idle()
