"""One engine as its clients see it: requests with streamed answers, and the instants at which their tokens came.

Knows OpenAI's completions and chat, and finds out which extras an engine takes. Tokens are what the engine's ``usage``
says, never what was asked for: an engine may stop early.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from bes_lab.errors import ProfileError

CONNECT_SECONDS = 5.0
MODELS = "/v1/models"
ROUND_TRIPS = 9
# Everyday words, most of them one token to any tokenizer; drawn at random, so that no prefix cache sees one twice.
_WORDS = (
    "how far can one act now and yet get the sum due ten ask for man day way new old see two who boy did its let put "
    "say she too use her our out him his has all any was not but you are red big air car end eye few got hot job key"
)
WORDS = tuple(_WORDS.split())
_EXTRAS: tuple[Mapping[str, object], ...] = (
    {"temperature": 0, "stream_options": {"include_usage": True}, "ignore_eos": True},
    {"temperature": 0, "stream_options": {"include_usage": True}},
    {"temperature": 0},
)
"""From the most that helps to the least: an engine that refuses a field is asked again without it."""


@dataclass(frozen=True)
class Address:
    """Where the engine is, the path that is measured, and what opens the door."""

    url: str
    chat: bool = False
    api_key: str | None = None

    @property
    def root(self) -> str:
        """The URL without a trailing slash or /v1."""
        return self.url.rstrip("/").removesuffix("/v1")

    def check(self) -> None:
        """Raise ProfileError for what is no URL."""
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ProfileError(f"{self.url}: expected http://HOST:PORT or https://HOST, such as http://127.0.0.1:8000")


@dataclass(frozen=True)
class Answer:
    """One answered request; instants are seconds of the monotonic clock."""

    sent: float
    events: tuple[float, ...]
    """When each piece of text came."""
    done: float
    prompt_tokens: int
    output_tokens: int

    @property
    def seconds(self) -> float:
        """Latency as the client saw it."""
        return self.done - self.sent


class Engine:
    """A context: one engine and one model of it. Every method raises ProfileError with what to do about it."""

    def __init__(self, address: Address, model: str | None, limit_seconds: float) -> None:
        address.check()
        self._address = address
        self._extras = 0
        self._words_per_token = 1.0
        self._tokens_around = 0.0
        self._limit = limit_seconds
        self._session: aiohttp.ClientSession | None = None
        self._listed: list[str] = []
        self.model = model or ""
        self.round_trip = 0.0
        """Seconds that HTTP costs without any generation: what is seen of an answer is that much more than it took."""

    async def __aenter__(self) -> Self:
        headers = {"authorization": f"Bearer {self._address.api_key}"} if self._address.api_key else {}
        timeout = aiohttp.ClientTimeout(total=self._limit, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)
        try:
            await self._find_model()
            await self._calibrate()
            self.round_trip = await self._round_trip()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def prompt(self, tokens: int, generator: random.Random) -> str:
        """Words drawn at random that make about ``tokens`` tokens with all that the engine adds around them."""
        words = max(1, round((tokens - self._tokens_around) * self._words_per_token))
        return " ".join(generator.choices(WORDS, k=words))

    async def ask(self, prompt: str, max_tokens: int) -> Answer:
        """One request, answered as a stream."""
        return await self._ask(prompt, max_tokens, _EXTRAS[self._extras])

    async def _find_model(self) -> None:
        """Take the engine's only model if none was named; an engine that lists none must be told."""
        status, body = await self._get(MODELS)
        entries = body.get("data") if isinstance(body, dict) else None
        if status == 200 and isinstance(entries, list):
            self._listed = [str(entry.get("id")) for entry in entries if isinstance(entry, dict)]
        if not self.model:
            if len(self._listed) != 1:
                found = ", ".join(self._listed) or f"none, status {status}"
                raise ProfileError(f"{self._address.url}: name one of its models with --model (it lists: {found})")
            self.model = self._listed[0]

    async def _find_extras(self, prompt: str) -> None:
        """Leave out what the engine refuses to read, as long as something can be left out."""
        while True:
            try:
                await self._ask(prompt, 8, _EXTRAS[self._extras])
                return
            except _RefusedFieldError:
                if self._extras + 1 == len(_EXTRAS):
                    raise
                self._extras += 1

    async def _calibrate(self) -> None:
        """Two requests of known words: they warm the engine up and say how many tokens its words are."""
        generator = random.Random(0)
        few, many = 16, 80
        await self._find_extras(" ".join(generator.choices(WORDS, k=few)))
        counted = [
            (await self.ask(" ".join(generator.choices(WORDS, k=words)), 8)).prompt_tokens for words in (few, many)
        ]
        if counted[1] <= counted[0]:
            raise ProfileError(
                f"{self._address.url}: says that {few} words are {counted[0]} tokens and {many} words {counted[1]}; "
                "its `usage` cannot be used"
            )
        self._words_per_token = (many - few) / (counted[1] - counted[0])
        self._tokens_around = counted[0] - few / self._words_per_token

    async def _round_trip(self) -> float:
        """The median of a few, of the lightest page that every engine has."""
        taken = []
        for _ in range(ROUND_TRIPS):
            sent = time.monotonic()
            await self._get(MODELS)
            taken.append(time.monotonic() - sent)
        return statistics.median(taken)

    async def _get(self, path: str) -> tuple[int, Any]:
        assert self._session is not None  # noqa: S101 - used as a context
        try:
            async with self._session.get(self._address.root + path) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, None

    async def _ask(self, prompt: str, max_tokens: int, extras: Mapping[str, object]) -> Answer:
        assert self._session is not None  # noqa: S101 - used as a context
        chat = self._address.chat
        path = "/v1/chat/completions" if chat else "/v1/completions"
        text = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        body = {"model": self.model, **text, "max_tokens": max_tokens, "stream": True, **extras}
        sent = time.monotonic()
        try:
            async with self._session.post(self._address.root + path, json=body) as answer:
                if answer.status != 200:
                    raise self._refused(path, answer.status, (await answer.read()).decode(errors="replace"))
                return await self._read(answer, sent)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(error) from None

    async def _read(self, answer: aiohttp.ClientResponse, sent: float) -> Answer:
        events: list[float] = []
        usage: dict[str, Any] | None = None
        done = sent
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            now = time.monotonic()
            event = json.loads(data)
            if not isinstance(event, dict) or "error" in event:
                raise ProfileError(
                    f"{self._address.url}: failed inside an answer: {data[:200].decode(errors='replace')}"
                )
            if isinstance(event.get("usage"), dict):
                usage = event["usage"]
            if _has_text(event):
                events.append(now)
                done = now
        try:
            prompt_tokens, output_tokens = int((usage or {})["prompt_tokens"]), int((usage or {})["completion_tokens"])
        except (KeyError, TypeError, ValueError):
            raise ProfileError(
                f"{self._address.url}: streams without `usage`, so nobody can count its tokens; this needs an engine "
                "that honours stream_options.include_usage"
            ) from None
        return Answer(sent, tuple(events), done, prompt_tokens, output_tokens)

    def _refused(self, path: str, status: int, content: str) -> ProfileError:
        said = " ".join(content.split())[:300] or "nothing"
        where = f"{self._address.root}{path}"
        if status in {401, 403}:
            return ProfileError(f"{where}: answered {status}: name a file with its key by --api-key-file")
        kind: type[ProfileError] = ProfileError
        hint = ""
        if self._listed and self.model not in self._listed:
            hint = f"; its models: {', '.join(self._listed)}"
        elif status in {404, 405} and not self._address.chat:
            hint = "; if it only chats, add --chat"
        elif status in {400, 422}:
            kind = _RefusedFieldError
            hint = "; if that is the context length, ask for less with --prompt-tokens and --output-tokens"
        return kind(f"{where}: answered {status} for model {self.model!r}: {said}{hint}")

    def _unreachable(self, error: Exception) -> ProfileError:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            reason = str(getattr(error, "os_error", None) or "no connection in time")
            return ProfileError(f"{self._address.url}: nobody listens ({reason}); start the engine or mend the address")
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            return ProfileError(
                f"{self._address.url}: no answer within {self._limit:g} s; ask for less, or give --max-seconds"
            )
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return ProfileError(f"{self._address.url}: does not speak OpenAI's HTTP API ({reason})")


class _RefusedFieldError(ProfileError):
    """The engine may take the request with fewer fields."""


def _has_text(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    delta = choices[0].get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choices[0].get("text")
    return bool(text)
