"""OpenAI's words: what a body of /v1/completions asks for, errors in that API's shape, the list of models.

Parses once, keeps the body's bytes: only the value of the top-level `model` is replaced on the way to an engine.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, cast

import orjson

from bes_router.errors import Reason, RefusedRequestError

CHARACTERS_PER_TOKEN = 4.0
DEFAULT_MAX_TOKENS = 16  # OpenAI's default for completions, which the engines share
MAX_TOKENS_LIMIT = 1 << 31
_KEY = b'"model"'
_ESCAPED_LETTER = b"\\u006"  # every letter of "model" escapes to \u006x: without it a key can be found as text
_COLON = re.compile(rb"[ \t\r\n]*:")
_VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|null)', re.DOTALL)
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_OPEN = frozenset(b"{[")
_CLOSE = frozenset(b"}]")


class CompletionRequest(NamedTuple):
    """What the router needs to know of a completion request. ``model_start`` is -1 where the body names no model."""

    model: str | None
    model_start: int
    model_end: int
    prompt_tokens: int
    output_tokens: int
    stream: bool


def parse_completion(body: bytes, characters_per_token: float = CHARACTERS_PER_TOKEN) -> CompletionRequest:
    """Read a body of /v1/completions. Raises RefusedRequestError (400) that names the parameter."""
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise _bad('the body is not a JSON object; send {"model": ..., "prompt": ...}')
    model = document.get("model")
    if model is not None and type(model) is not str:
        raise _bad("model is not a string; name a task", "model")
    if "prompt" not in document:
        raise _bad("prompt is missing; send a string, a list of strings, or token ids", "prompt")
    output = document.get("max_tokens")
    if output is None:
        output = DEFAULT_MAX_TOKENS
    elif type(output) is not int or not 0 <= output < MAX_TOKENS_LIMIT:
        raise _bad("max_tokens is not a whole number of at least 0", "max_tokens")
    stream = document.get("stream")
    if stream is not None and type(stream) is not bool:
        raise _bad("stream is neither true nor false", "stream")
    start, end = _model_span(body) if "model" in document else (-1, -1)
    tokens = _prompt_tokens(document["prompt"], characters_per_token)
    return CompletionRequest(model, start, end, tokens, max(1, output), bool(stream))


def spliced(body: bytes, request: CompletionRequest, served_model: bytes) -> bytes:
    """``body`` with the model's value replaced by ``served_model`` (a JSON string), every other byte untouched."""
    if request.model_start < 0:
        brace = body.index(b"{") + 1
        return b'%b"model":%b,%b' % (body[:brace], served_model, body[brace:])  # never {}: a prompt is there
    return body[: request.model_start] + served_model + body[request.model_end :]


def _bad(message: str, param: str | None = None) -> RefusedRequestError:
    return RefusedRequestError(400, Reason.BAD_BODY, message, param=param)


def _prompt_tokens(prompt: object, characters_per_token: float) -> int:
    """Tokens of a string, a list of token ids, or a list of either; several prompts add up."""
    if type(prompt) is str:
        return max(1, round(len(prompt) / characters_per_token))
    if type(prompt) is not list or not prompt:
        raise _bad("prompt is neither a string, a list of strings nor token ids", "prompt")
    first = type(prompt[0])
    if first is int:
        if any(type(token) is not int for token in prompt):
            raise _bad("prompt mixes token ids with something else", "prompt")
        return len(prompt)
    if first is str:
        if any(type(text) is not str for text in prompt):
            raise _bad("prompt mixes strings with something else", "prompt")
        return sum(max(1, round(len(text) / characters_per_token)) for text in cast(list[str], prompt))
    if any(
        type(tokens) is not list or not tokens or any(type(token) is not int for token in tokens) for tokens in prompt
    ):
        raise _bad("prompt is neither a string, a list of strings nor token ids", "prompt")
    return sum(len(tokens) for tokens in cast(list[list[int]], prompt))


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


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> bytes:
    """An error as OpenAI's API words it."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def model_list(names: Iterable[str], created: int) -> bytes:
    """The body of GET /v1/models; ``created`` is a Unix time."""
    return orjson.dumps({"object": "list", "data": [_entry(name, created) for name in names]})


def model_object(name: str, created: int) -> bytes:
    """The body of GET /v1/models/NAME."""
    return orjson.dumps(_entry(name, created))


def _entry(name: str, created: int) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": created, "owned_by": "best-effort-serving"}
