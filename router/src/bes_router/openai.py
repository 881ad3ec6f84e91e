"""OpenAI's words in answers: errors in that API's shape, the list of models."""

from collections.abc import Iterable

import orjson


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
