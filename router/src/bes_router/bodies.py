"""What bodies of /v1/completions and /v1/chat/completions ask for, as far as a decision needs to know it.

Parses once, keeps the body's bytes: only the value of the top-level `model` is replaced on the way to an engine, and
whatever else OpenAI's API or an engine's own extensions put there travels on untouched.
"""

import re
from typing import Any, NamedTuple, cast

import orjson

from bes_router.errors import Reason, RefusedRequestError

DEFAULT_MAX_TOKENS = 16  # OpenAI's default for completions, which the engines share
UNTIL_IT_STOPS = -1  # chat without a maximum: engines go on until the model ends its turn
MAX_TOKENS_LIMIT = 1 << 31
MAX_CHOICES = 1 << 16
TOKENS_PER_MESSAGE = 4  # role and separators of a chat template; OpenAI's own guide counts 3, and 3 once
_KEY = b'"model"'
_ESCAPED_LETTER = b"\\u006"  # every letter of "model" escapes to \u006x: without it a key can be found as text
_COLON = re.compile(rb"[ \t\r\n]*:")
_VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|null)', re.DOTALL)
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_OPEN = frozenset(b"{[")
_CLOSE = frozenset(b"}]")


class Asked(NamedTuple):
    """What the router needs to know of a body. ``model_start`` is -1 where the body names no model."""

    model: str | None
    model_start: int
    model_end: int
    stream: bool
    output_tokens: int  # at most, of one answer; UNTIL_IT_STOPS where the body says none
    sequences: int  # answers that are generated side by side: prompts times choices
    characters: int  # of all prompts; their tokens can only be guessed
    counted_tokens: int  # of all prompts: token ids, and what a chat's messages cost beside their text
    longest: float  # the longest prompt's share of all prompts
    measurable: bool  # nothing but text is in the prompt, so `usage` tells how many characters make a token


def parse_completion(body: bytes) -> Asked:
    """Read a body of /v1/completions. Raises RefusedRequestError (400) that names the parameter."""
    document = _document(body, '{"model": ..., "prompt": ...}')
    if "prompt" not in document:
        raise _bad("prompt is missing; send a string, a list of strings, or token ids", "prompt")
    prompt = document["prompt"]
    prompts, longest, characters, counted = (1, 1.0, len(prompt), 0) if type(prompt) is str else _prompts(prompt)
    choices = _choices(document, "n")
    if "best_of" in document:
        choices = max(choices, _choices(document, "best_of"))
    output = _tokens(document, "max_tokens", DEFAULT_MAX_TOKENS)
    model, start, end = _model(document, body)
    plain = characters > 0 and not counted
    return Asked(model, start, end, _stream(document), output, prompts * choices, characters, counted, longest, plain)


def parse_chat(body: bytes) -> Asked:
    """Read a body of /v1/chat/completions. Raises RefusedRequestError (400) that names the parameter."""
    document = _document(body, '{"model": ..., "messages": [...]}')
    messages = document.get("messages")
    if type(messages) is not list or not messages:
        raise _bad('messages is not a list of messages; send [{"role": "user", "content": "..."}]', "messages")
    characters = 0
    plain = True
    for message in messages:
        if type(message) is not dict:
            raise _bad('a message is not an object; send {"role": "user", "content": "..."}', "messages")
        content = message.get("content")
        if type(content) is str:
            characters += len(content)
        elif content is not None:
            text, only_text = _parts(content)
            characters += text
            plain = plain and only_text
        if message.get("tool_calls"):
            characters += _written(message["tool_calls"], "messages")
            plain = False
    if document.get("tools"):  # templates write them into the prompt
        characters += _written(document["tools"], "tools")
        plain = False
    output = _tokens(document, "max_tokens", UNTIL_IT_STOPS)
    output = _tokens(document, "max_completion_tokens", output)
    model, start, end = _model(document, body)
    counted = TOKENS_PER_MESSAGE * len(messages)
    choices = _choices(document, "n")
    return Asked(
        model, start, end, _stream(document), output, choices, characters, counted, 1.0, plain and characters > 0
    )


def spliced(body: bytes, asked: Asked, served_model: bytes) -> bytes:
    """``body`` with the model's value replaced by ``served_model`` (a JSON string), every other byte untouched."""
    if asked.model_start < 0:
        brace = body.index(b"{") + 1
        return b'%b"model":%b,%b' % (body[:brace], served_model, body[brace:])  # never {}: a prompt is there
    return body[: asked.model_start] + served_model + body[asked.model_end :]


def _bad(message: str, param: str | None = None) -> RefusedRequestError:
    return RefusedRequestError(400, Reason.BAD_BODY, message, param=param)


def _document(body: bytes, example: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise _bad(f"the body is not a JSON object; send {example}")
    return document


def _model(document: dict[str, Any], body: bytes) -> tuple[str | None, int, int]:
    model = document.get("model")
    if model is None:
        return (None, *_model_span(body)) if "model" in document else (None, -1, -1)
    if type(model) is not str:
        raise _bad("model is not a string; name a task", "model")
    return (model, *_model_span(body))


def _stream(document: dict[str, Any]) -> bool:
    stream = document.get("stream")
    if stream is not None and type(stream) is not bool:
        raise _bad("stream is neither true nor false", "stream")
    return bool(stream)


def _tokens(document: dict[str, Any], name: str, absent: int) -> int:
    value = document.get(name)
    if value is None:
        return absent
    if type(value) is not int or not 0 <= value < MAX_TOKENS_LIMIT:
        raise _bad(f"{name} is not a whole number of at least 0", name)
    return value or 1


def _choices(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if value is None:
        return 1
    if type(value) is not int or not 0 < value < MAX_CHOICES:
        raise _bad(f"{name} is not a whole number of at least 1", name)
    return value


def _prompts(prompt: object) -> tuple[int, float, int, int]:
    """Number of prompts, the longest one's share, characters and counted tokens, of every form but a string."""
    if type(prompt) is not list or not prompt:
        raise _bad("prompt is neither a string, a list of strings nor token ids", "prompt")
    first = type(prompt[0])
    if first is int:
        if any(type(token) is not int for token in prompt):
            raise _bad("prompt mixes token ids with something else", "prompt")
        return 1, 1.0, 0, len(prompt)
    if first is str:
        if any(type(text) is not str for text in prompt):
            raise _bad("prompt mixes strings with something else", "prompt")
        sizes = [len(text) for text in cast(list[str], prompt)]
        total = sum(sizes)
        return len(sizes), (max(sizes) / total if total else 1.0), total, 0
    if any(
        type(tokens) is not list or not tokens or any(type(token) is not int for token in tokens) for tokens in prompt
    ):
        raise _bad("prompt is neither a string, a list of strings nor token ids", "prompt")
    sizes = [len(tokens) for tokens in cast(list[list[int]], prompt)]
    return len(sizes), max(sizes) / sum(sizes), 0, sum(sizes)


def _parts(content: object) -> tuple[int, bool]:
    """Characters of a message's content parts, and whether they are nothing but text."""
    if type(content) is not list:
        raise _bad("a message's content is neither a string nor a list of parts", "messages")
    characters = 0
    only_text = True
    for part in content:
        if type(part) is not dict:
            raise _bad('a part of a message is not an object; send {"type": "text", "text": "..."}', "messages")
        text = part.get("text")
        if type(text) is str:
            characters += len(text)
        elif part.get("type") == "text":
            raise _bad("a part of type text has no text", "messages")
        else:
            only_text = False
    return characters, only_text


def _written(value: object, param: str) -> int:
    """How long a value is in JSON."""
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:  # what can be read may be nested more deeply than what can be written
        raise _bad(f"{param} is nested too deeply", param) from None


def _model_span(body: bytes) -> tuple[int, int]:
    """Where the value of the top-level key `model` lies in ``body``, valid JSON that has the key."""
    if body.count(_KEY) == 1 and _ESCAPED_LETTER not in body:
        return _value_span(body, body.index(_KEY) + len(_KEY))
    spans = []
    depth = 0
    for match in _STRUCTURE.finditer(body):
        first = body[match.start()]
        if first in _OPEN:
            depth += 1
        elif first in _CLOSE:
            depth -= 1
        elif depth == 1 and _COLON.match(body, match.end()) and orjson.loads(match.group()) == "model":
            spans.append(_value_span(body, match.end()))
    if len(spans) != 1:
        raise _bad("model is there twice; name it once", "model")
    return spans[0]


def _value_span(body: bytes, key_end: int) -> tuple[int, int]:
    """The span of a string or null after a key that ends at ``key_end``."""
    value = _VALUE.match(body, key_end)
    if value is None:
        raise _bad("model cannot be found in the body", "model")
    return value.span(1)
