"""vLLM's API on the wire; shapes are those of the recorded answers (crds/tests/data/engines/vllm.yaml)."""

from collections.abc import Mapping, Sequence

import orjson

from bes_api.engines import vllm
from bes_api.engines.facts import Case, EngineFacts
from bes_lab.engine.dialect import DONE, UNSUPPORTED, ErrorReply, Identity, Reading, event
from bes_lab.engine.filler import Output, guesses
from bes_lab.engine.request import Limits, Rules, Wanted

_REASONS = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 429: "Too Many Requests"}
_REASONS |= {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
_STRUCTURED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")


class VLLMDialect:
    """See ``Dialect``. ``facts``: of another engine that speaks as vLLM does and names its metrics itself."""

    rules = Rules(
        completion_tokens=16,
        unsupported={**UNSUPPORTED, **dict.fromkeys(_STRUCTURED, ())},
        unsupported_kinds={},
        checks_model=True,
        choices=True,
        token_prompts=True,
        completion_logprobs=True,
        single_stop=True,
        max_stops=None,
        max_prompts=None,
        max_logprobs=20,
        most_requests=None,  # whatever cannot run waits
    )

    def __init__(self, facts: EngineFacts = vllm.FACTS) -> None:
        self._names = facts.metrics

    def error(self, case: Case, message: str, kind: str | None = None) -> ErrorReply:
        """See ``Dialect``."""
        answer = vllm.ERRORS.answers[case]
        if answer.kind is None:
            return ErrorReply(answer.status, b"")
        body = vllm.error_body(answer.status, kind or answer.kind, answer.message or message)
        return ErrorReply(answer.status, orjson.dumps(body))

    def refusal(self, status: int, message: str) -> ErrorReply:
        """See ``Dialect``."""
        return ErrorReply(status, orjson.dumps(vllm.error_body(status, _REASONS.get(status, "Error"), message)))

    def headers(self, _wanted: Wanted, _seconds: float) -> bytes:
        """See ``Dialect``."""
        return b""

    def whole(self, identity: Identity, wanted: Wanted) -> bytes:
        """See ``Dialect``."""
        kind = "chat.completion" if wanted.chat else "text_completion"
        make = self._chat_choice if wanted.chat else self._choice
        body = {
            "id": identity.name,
            "object": kind,
            "created": identity.created,
            "model": identity.model,
            "choices": [make(wanted, index, choice) for index, choice in enumerate(wanted.choices)],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {**_usage(wanted), "prompt_tokens_details": None},
            "kv_transfer_params": None,
        }
        if wanted.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None}
        return orjson.dumps(body)

    def _choice(self, wanted: Wanted, index: int, output: Output) -> Mapping[str, object]:
        return {
            "index": index,
            "text": _echo(wanted, index) + output.text,
            "logprobs": _completion_logprobs(output, wanted.logprobs, range(output.tokens)),
            "finish_reason": _reason(output),
            "stop_reason": output.stop,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
        }

    def _chat_choice(self, wanted: Wanted, index: int, output: Output) -> Mapping[str, object]:
        message: Mapping[str, object] = {
            "role": "assistant",
            "content": output.text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [],
            "reasoning_content": None,
        }
        return {
            "index": index,
            "message": message,
            "logprobs": _chat_logprobs(output, wanted.logprobs, range(output.tokens)),
            "finish_reason": _reason(output),
            "stop_reason": output.stop,
            "token_ids": None,
        }

    def tokens(self, identity: Identity, wanted: Wanted, choice: int, first: int, until: int) -> bytes:
        """See ``Dialect``: a chat stream begins with the role."""
        output = wanted.choices[choice]
        events = []
        if wanted.chat and first == 0:
            role = {"role": "assistant", "content": ""}
            begin = {"index": choice, "delta": role, "logprobs": None, "finish_reason": None}
            events.append(event(_chunk(identity, wanted, begin)))
        for token in range(first, until):
            last = token == output.tokens - 1
            piece = output.piece(token)
            reason = _reason(output) if last else None
            if wanted.chat:
                logprobs = _chat_logprobs(output, wanted.logprobs, (token,))
                made = {"index": choice, "delta": {"content": piece}, "logprobs": logprobs, "finish_reason": reason}
                if last:
                    made["stop_reason"] = output.stop
            else:
                made = {
                    "index": choice,
                    "text": piece if token else _echo(wanted, choice) + piece,
                    "logprobs": _completion_logprobs(output, wanted.logprobs, (token,)),
                    "finish_reason": reason,
                    "stop_reason": output.stop if last else None,
                }
            events.append(event(_chunk(identity, wanted, made)))
        return b"".join(events)

    def closing(self, identity: Identity, wanted: Wanted) -> bytes:
        """See ``Dialect``: the usage has an event of its own."""
        if not wanted.include_usage:
            return DONE
        return event({**_chunk(identity, wanted, None), "usage": _usage(wanted)}) + DONE

    def models(self, limits: Limits, created: int) -> bytes:
        """See ``Dialect``."""
        permission = {
            "id": f"modelperm-{limits.model}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        card = {
            "id": limits.model,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": limits.model,
            "parent": None,
            "max_model_len": limits.context_tokens,
            "permission": [permission],
        }
        return orjson.dumps({"object": "list", "data": [card]})

    def pages(self, _limits: Limits) -> Mapping[bytes, bytes]:
        """See ``Dialect``."""
        version = vllm.PROGRAM.image.reference.rpartition(":v")[2]
        return {b"/version": orjson.dumps({"version": version})}

    def metrics(self, reading: Reading) -> str:
        """See ``Dialect``."""
        label = f'model_name="{reading.limits.model}",engine="0"'
        counters = reading.counters
        names = self._names
        ended = {"length": counters.length, "stop": counters.stop, "abort": counters.aborted}
        lines = [
            f"# TYPE {names.running} gauge",
            f"{names.running}{{{label}}} {reading.running}",
            f"# TYPE {names.waiting} gauge",
            f"{names.waiting}{{{label}}} {reading.waiting}",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{{{label}}} {reading.kv_tokens / reading.limits.kv_cache_tokens:.6f}",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{{{label}}} {counters.prompt_tokens}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{label}}} {counters.generation_tokens}",
            f"# TYPE {names.finished} counter",
            *(f'{names.finished}{{{label},finished_reason="{why}"}} {count}' for why, count in ended.items()),
        ]
        return "\n".join(lines) + "\n"


def _chunk(identity: Identity, wanted: Wanted, choice: Mapping[str, object] | None) -> dict[str, object]:
    chunk: dict[str, object] = {
        "id": identity.name,
        "object": "chat.completion.chunk" if wanted.chat else "text_completion",
        "created": identity.created,
        "model": identity.model,
        "choices": [] if choice is None else [choice],
    }
    if not wanted.chat:
        chunk["usage"] = None
    return chunk


def _usage(wanted: Wanted) -> Mapping[str, int]:
    prompt, generated = sum(wanted.prompts), wanted.generated
    return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def _reason(output: Output) -> str:
    return "length" if output.stop is None else "stop"


def _echo(wanted: Wanted, choice: int) -> str:
    return wanted.echo[choice // wanted.choices_per_prompt] if wanted.echo else ""


def _completion_logprobs(output: Output, alternatives: int | None, tokens: Sequence[int]) -> object:
    if alternatives is None:
        return None
    found = [guesses(output, token, max(0, alternatives - 1)) for token in tokens]
    return {
        "text_offset": [output.offset(token) for token in tokens],
        "token_logprobs": [each[0].logprob for each in found],
        "tokens": [each[0].token for each in found],
        "top_logprobs": [{guess.token: guess.logprob for guess in each} for each in found],
    }


def _chat_logprobs(output: Output, alternatives: int | None, tokens: Sequence[int]) -> object:
    if alternatives is None:
        return None
    content = []
    for token in tokens:
        written, *others = (
            {"token": guess.token, "logprob": guess.logprob, "bytes": list(guess.token.encode())}
            for guess in guesses(output, token, max(0, alternatives - 1))
        )
        content.append({**written, "top_logprobs": [written, *others][:alternatives]})
    return {"content": content}
