"""What a client asked for: parsed under the rules of the engine that is emulated.

The emulated tokenizer is one word, one token; lists of tokens are counted. Sampling parameters and biases have nothing
to act on and are ignored; what would change the answer's form and cannot be honoured is refused, so that nobody
measures something that was not there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from bes_api.engines.chat_template import rendered
from bes_api.engines.facts import Case
from bes_lab.engine.filler import Output, start_of, written

MAX_CHOICES = 128
Document = Mapping[str, object]


class RefusedError(Exception):
    """A request that is answered with an error; ``kind`` is the error's type where it is not that of the case."""

    def __init__(self, case: Case, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.case = case
        self.kind = kind


@dataclass(frozen=True)
class Rules:
    """Where the engines' APIs differ in what they accept."""

    completion_tokens: int
    """Tokens of a completion that names no maximum; a chat answer may fill the context."""
    unsupported: Mapping[str, tuple[object, ...]]
    """Fields that cannot be honoured, with the values that may stand there, beside null."""
    unsupported_kinds: Mapping[str, str]
    """Types of the errors about them, where documented."""
    checks_model: bool
    choices: bool
    """Whether ``n`` counts."""
    token_prompts: bool
    completion_logprobs: bool
    single_stop: bool
    """Whether ``stop`` may be one string."""
    max_stops: int | None
    max_prompts: int | None
    max_logprobs: int
    most_requests: Callable[[int], int] | None
    """Of the batch cap: sequences that the engine holds before it says that it is overloaded; None: no limit."""


@dataclass(frozen=True)
class Limits:
    """The engine that is asked."""

    model: str
    context_tokens: int
    kv_cache_tokens: int
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request: tokens of each prompt, and its choices (those of the first prompt first)."""

    chat: bool
    prompts: tuple[int, ...]
    characters: int
    choices: tuple[Output, ...]
    stream: bool
    include_usage: bool
    logprobs: int | None
    """Alternatives per token; None: no probabilities are wanted."""
    echo: tuple[str, ...]
    """Per prompt: text that stands before each of its choices."""

    @property
    def choices_per_prompt(self) -> int:
        """``n``."""
        return len(self.choices) // len(self.prompts)

    @property
    def generated(self) -> int:
        """Tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)


def parse(body: bytes, *, chat: bool, rules: Rules, limits: Limits) -> Wanted:
    """Read a request's body. Raises RefusedError."""
    document = _document(body)
    if rules.checks_model and (named := document.get("model", limits.model)) != limits.model:
        raise RefusedError(Case.UNKNOWN_MODEL, f"The model `{named}` does not exist.")
    for field, allowed in rules.unsupported.items():
        if (value := document.get(field)) is not None and value not in allowed:
            message = f"{field}: an emulated engine cannot do that; leave it out"
            raise RefusedError(Case.INVALID, message, rules.unsupported_kinds.get(field))
    texts, prompts = _chat_prompt(document) if chat else _prompts(document.get("prompt"), rules)
    stream = bool(document.get("stream", False))
    options = document.get("stream_options")
    most = _most_tokens(document, max(prompts), chat=chat, rules=rules, limits=limits)
    choices = _whole(document, "n", 1, MAX_CHOICES) or 1 if rules.choices else 1
    stops, seed = _stops(document.get("stop"), rules), _seed(document)
    echo = bool(document.get("echo")) and not chat
    logprobs = _logprobs(document, rules, chat=chat)
    if echo and (logprobs is not None or len(texts) < len(prompts)):
        raise RefusedError(Case.INVALID, "echo: an emulated engine repeats text alone; leave logprobs and tokens out")
    return Wanted(
        chat=chat,
        prompts=prompts,
        characters=sum(map(len, texts)),
        choices=tuple(written(start_of(seed, choice), most, stops) for _ in prompts for choice in range(choices)),
        stream=stream,
        include_usage=stream and isinstance(options, dict) and bool(options.get("include_usage")),
        logprobs=logprobs,
        echo=texts if echo else (),
    )


def _document(body: bytes) -> Document:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(Case.INVALID, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RefusedError(Case.INVALID, "the body: expected a JSON object")
    return document


def _prompts(prompt: object, rules: Rules) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts, and tokens per prompt; prompts of tokens have no text."""
    if isinstance(prompt, str):
        return (prompt,), (_words(prompt),)
    if isinstance(prompt, list) and prompt:
        if rules.max_prompts is not None and len(prompt) > rules.max_prompts:
            message = f"Number of prompts exceeds the maximum allowed batch size of {rules.max_prompts}"
            raise RefusedError(Case.INVALID, message, "batch size exceeded")
        if all(isinstance(each, str) for each in prompt):
            return tuple(prompt), tuple(map(_words, prompt))
        if rules.token_prompts and _is_tokens(prompt):
            return (), (len(prompt),)
        if rules.token_prompts and all(isinstance(each, list) and _is_tokens(each) for each in prompt):
            return (), tuple(map(len, prompt))
    raise RefusedError(Case.INVALID, "prompt: expected a string, a list of strings, or one or several lists of tokens")


def _is_tokens(prompt: Sequence[object]) -> bool:
    return bool(prompt) and all(type(token) is int for token in prompt)


def _words(text: str) -> int:
    return max(1, len(text.split()))


def _chat_prompt(document: Document) -> tuple[tuple[str, ...], tuple[int, ...]]:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError(Case.INVALID, "messages: expected a list with at least one message")
    text = rendered([_message(index, message) for index, message in enumerate(messages)])
    return (text,), (_words(text),)


def _message(index: int, message: object) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise RefusedError(Case.INVALID, f"messages.{index}.role: expected a string")
    content = message.get("content")
    if isinstance(content, str):
        return message["role"], content
    if content is None and message.get("tool_calls"):
        return message["role"], ""
    texts = [_part(index, part) for part in content] if isinstance(content, list) and content else None
    if texts is None:
        raise RefusedError(Case.INVALID, f"messages.{index}.content: expected a string or a list of parts")
    return message["role"], "\n".join(texts)


def _part(index: int, part: object) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RefusedError(Case.INVALID, f"messages.{index}.content: an emulated engine reads parts of type text only")


def _most_tokens(document: Document, prompt: int, *, chat: bool, rules: Rules, limits: Limits) -> int:
    field = "max_completion_tokens" if chat and document.get("max_completion_tokens") is not None else "max_tokens"
    asked = _whole(document, field, 1, None)
    room = min(limits.context_tokens, limits.kv_cache_tokens)
    most = max(1, room - prompt) if asked is None and chat else asked or rules.completion_tokens
    longest = prompt + most
    if longest > limits.context_tokens:
        message = (
            f"This model's maximum context length is {limits.context_tokens} tokens. However, you requested {longest} "
            f"tokens ({prompt} in the prompt, {most} in the completion). Shorten one of them."
        )
        raise RefusedError(Case.TOO_LONG, message)
    if longest > room:
        message = f"the request needs {longest} tokens of KV cache, this engine has {limits.kv_cache_tokens}"
        raise RefusedError(Case.TOO_LONG, message)
    return most


def _whole(document: Document, field: str, least: int, most: int | None) -> int | None:
    value = document.get(field)
    if value is None or (type(value) is int and value >= least and (most is None or value <= most)):
        return value
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise RefusedError(Case.INVALID, f"{field}: expected a whole number {bounds}, got {value!r}")


def _seed(document: Document) -> int | None:
    seed = document.get("seed")
    if seed is None or type(seed) is int:
        return seed
    raise RefusedError(Case.INVALID, f"seed: expected a whole number, got {seed!r}")


def _stops(stop: object, rules: Rules) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) and rules.single_stop else stop if isinstance(stop, list) else None
    if stop is None:
        return ()
    if stops is None or not all(isinstance(each, str) and each for each in stops):
        single = "a string or " if rules.single_stop else ""
        raise RefusedError(Case.INVALID, f"stop: expected {single}a list of strings that are not empty")
    if rules.max_stops is not None and len(stops) > rules.max_stops:
        raise RefusedError(Case.INVALID, f"stop: expected at most {rules.max_stops} strings, got {len(stops)}")
    return tuple(map(str, stops))


def _logprobs(document: Document, rules: Rules, *, chat: bool) -> int | None:
    if not chat:
        return _whole(document, "logprobs", 0, rules.max_logprobs) if rules.completion_logprobs else None
    wanted = document.get("logprobs")
    if wanted not in (None, False, True):
        raise RefusedError(Case.INVALID, f"logprobs: expected true or false, got {wanted!r}")
    top = _whole(document, "top_logprobs", 0, rules.max_logprobs)
    if not wanted and top:
        raise RefusedError(Case.INVALID, "top_logprobs: expected logprobs to be true beside it")
    return (top or 0) if wanted else None
