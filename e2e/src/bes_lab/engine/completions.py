"""vLLM's `/v1/completions` as far as an emulation can honour it: parsing, filler text and the bodies of answers.

The emulated tokenizer is one word, one token; lists of tokens are counted. Whatever would need a real model (echo,
best_of, logprobs, several choices) is refused, so that nobody measures something that was not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import orjson

DEFAULT_MAX_TOKENS = 16
_SENTENCE = "the model that still answers in time is the best that this moment can give, a late one is worth nothing;"
_WORDS = tuple(_SENTENCE.split(" "))
_UNSUPPORTED = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "suffix": None, "prompt_logprobs": None}


class RefusedError(Exception):
    """A request that is answered with an error in vLLM's shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Completion:
    """What the engine needs to know of a request: tokens of each prompt, tokens to generate, how to answer."""

    prompts: tuple[int, ...]
    max_tokens: int
    stream: bool
    include_usage: bool


def parse(body: bytes, model: str, context_tokens: int, kv_cache_tokens: int) -> Completion:
    """Read a request's body. Raises RefusedError with the status that vLLM gives."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RefusedError(400, "the body: expected a JSON object")
    named = document.get("model", model)
    if named != model:
        raise RefusedError(404, f"The model `{named}` does not exist.")
    for field, only in _UNSUPPORTED.items():
        if document.get(field) not in (None, only):
            raise RefusedError(400, f"{field}: an emulated engine supports only {only!r}; leave it out")
    prompts = _prompt_tokens(document.get("prompt"))
    max_tokens = document.get("max_tokens")
    if max_tokens is None:
        max_tokens = DEFAULT_MAX_TOKENS
    if type(max_tokens) is not int or max_tokens < 1:
        raise RefusedError(400, f"max_tokens: expected a whole number of at least 1, got {max_tokens!r}")
    longest = max(prompts) + max_tokens
    if longest > context_tokens:
        raise RefusedError(
            400,
            f"This model's maximum context length is {context_tokens} tokens. However, you requested {longest} tokens "
            f"({max(prompts)} in the prompt, {max_tokens} in the completion). Shorten one of them.",
        )
    if longest > kv_cache_tokens:
        raise RefusedError(400, f"the request needs {longest} tokens of KV cache, this engine has {kv_cache_tokens}")
    options = document.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return Completion(prompts, max_tokens, bool(document.get("stream", False)), usage)


def _prompt_tokens(prompt: object) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return (_words(prompt),)
    if isinstance(prompt, list) and prompt:
        if _is_tokens(prompt):
            return (len(prompt),)
        if all(isinstance(each, str) for each in prompt):
            return tuple(_words(each) for each in prompt)
        if all(isinstance(each, list) and _is_tokens(each) for each in prompt):
            return tuple(len(each) for each in prompt)
    raise RefusedError(400, "prompt: expected a string, a list of strings, or one or several lists of tokens")


def _is_tokens(prompt: list[object]) -> bool:
    return bool(prompt) and all(type(token) is int for token in prompt)


def _words(text: str) -> int:
    return max(1, len(text.split()))


def word(index: int) -> str:
    """The token at ``index`` of every answer."""
    return " " + _WORDS[index % len(_WORDS)]


@lru_cache(maxsize=256)
def text(tokens: int) -> str:
    """The whole answer of that many tokens."""
    return "".join(word(index) for index in range(tokens))


def usage(prompts: tuple[int, ...], generated: int) -> dict[str, int]:
    """The ``usage`` object of a request whose answers have ``generated`` tokens together."""
    prompt = sum(prompts)
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def whole_answer(identity: str, created: int, model: str, request: Completion) -> bytes:
    """The body of an answer that is not streamed."""
    choices = [
        {
            "index": index,
            "text": text(request.max_tokens),
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
            "prompt_logprobs": None,
        }
        for index in range(len(request.prompts))
    ]
    return orjson.dumps(
        {
            "id": identity,
            "object": "text_completion",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": usage(request.prompts, request.max_tokens * len(request.prompts)),
        }
    )


def event(identity: str, created: int, model: str, choice: Mapping[str, object] | None, **more: object) -> bytes:
    """One server-sent event of a streamed answer; without a choice it is the closing one with the usage."""
    chunk = {
        "id": identity,
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": [] if choice is None else [choice],
        **more,
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def token_choice(prompt_index: int, token_index: int, *, last: bool) -> dict[str, object]:
    """The choice of one streamed token."""
    return {
        "index": prompt_index,
        "text": word(token_index),
        "logprobs": None,
        "finish_reason": "length" if last else None,
        "stop_reason": None,
    }


def error_body(status: int, message: str) -> bytes:
    """An error as vLLM words it."""
    kind = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}.get(status, "Error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def model_list(model: str, created: int, context_tokens: int) -> bytes:
    """The body of `/v1/models`."""
    card = {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": model,
        "parent": None,
        "max_model_len": context_tokens,
        "permission": [],
    }
    return orjson.dumps({"object": "list", "data": [card]})
