"""text-generation-inference's API on the wire; shapes are those of the recorded answers (crds/tests/data/engines)."""

from collections.abc import Mapping, Sequence

import orjson

from bes_api.engines import text_generation_inference as tgi
from bes_api.engines.facts import Case
from bes_lab.engine.dialect import DONE, UNSUPPORTED, ErrorReply, Identity, Reading, event
from bes_lab.engine.filler import Output, guesses
from bes_lab.engine.request import Limits, Rules, Wanted

MAX_PROMPTS, MAX_STOPS, MAX_BEST_OF, VALIDATION_WORKERS = 4, 4, 2, 2
"""The launcher's documented defaults."""
VERSION = tgi.PROGRAM.image.reference.rpartition(":")[2]
FINGERPRINT = f"{VERSION}-emulated"


class TGIDialect:
    """See ``Dialect``."""

    rules = Rules(
        completion_tokens=32,
        unsupported=UNSUPPORTED,
        unsupported_kinds={"suffix": "suffix not supported"},
        checks_model=False,  # documented as unused
        choices=False,  # documented as unused
        token_prompts=False,
        completion_logprobs=False,
        single_stop=False,
        max_stops=MAX_STOPS,
        max_prompts=MAX_PROMPTS,
        max_logprobs=5,
        most_requests=tgi.most_requests,
    )

    def error(self, case: Case, message: str, kind: str | None = None) -> ErrorReply:
        """See ``Dialect``."""
        answer = tgi.ERRORS.answers.get(case)
        if answer is None or answer.kind is None:
            return ErrorReply(404, b"")
        text = answer.message or (f"Input validation error: {message}" if kind is None else message)
        return ErrorReply(answer.status, orjson.dumps(tgi.error_body(answer.status, kind or answer.kind, text)))

    def refusal(self, status: int, message: str) -> ErrorReply:
        """See ``Dialect``."""
        if status == 405:
            return ErrorReply(405, b"")
        kind = "overloaded" if status == 429 else "generation"
        return ErrorReply(status, orjson.dumps(tgi.error_body(status, kind, message)))

    def headers(self, wanted: Wanted, seconds: float) -> bytes:
        """See ``Dialect``: those that an emulation knows; it splits no time into queue and inference."""
        milliseconds = int(seconds * 1000)
        return (
            b"x-compute-characters: %d\r\nx-total-time: %d\r\nx-prompt-tokens: %d\r\nx-generated-tokens: %d\r\n"
            b"x-time-per-token: %d\r\n"
        ) % (
            wanted.characters,
            milliseconds,
            sum(wanted.prompts),
            wanted.generated,
            milliseconds // max(1, wanted.generated),
        )

    def whole(self, identity: Identity, wanted: Wanted) -> bytes:
        """See ``Dialect``."""
        make = _chat_choice if wanted.chat else _choice
        choices = [make(wanted, index, output) for index, output in enumerate(wanted.choices)]
        kind = "chat.completion" if wanted.chat else "text_completion"
        usage = _usage(sum(wanted.prompts), wanted.generated)
        return orjson.dumps({**_head(identity, kind), "choices": choices, "usage": usage})

    def tokens(self, identity: Identity, wanted: Wanted, choice: int, first: int, until: int) -> bytes:
        """See ``Dialect``: the role stands in every delta."""
        output = wanted.choices[choice]
        events = []
        for token in range(first, until):
            last = token == output.tokens - 1
            if wanted.chat:
                chunk = _head(identity, "chat.completion.chunk")
                made: dict[str, object] = {
                    "index": choice,
                    "delta": {"role": "assistant", "content": output.piece(token)},
                    "logprobs": _logprobs(output, wanted.logprobs, (token,)),
                    "finish_reason": _reason(output) if last else None,
                }
                chunk |= {"choices": [made], "usage": None}
            else:
                chunk = _head(identity, "text_completion")
                ended = ("length" if output.stop is None else "stop_sequence") if last else ""
                made = {"index": choice, "text": output.piece(token), "logprobs": None, "finish_reason": ended}
                chunk["choices"] = [made]
                if last:
                    chunk["usage"] = _usage(wanted.prompts[choice], output.tokens)
            events.append(event(chunk))
        return b"".join(events)

    def closing(self, identity: Identity, wanted: Wanted) -> bytes:
        """See ``Dialect``: only a chat answer has its usage behind it."""
        if not (wanted.chat and wanted.include_usage):
            return DONE
        chunk = _head(identity, "chat.completion.chunk")
        return event({**chunk, "choices": [], "usage": _usage(sum(wanted.prompts), wanted.generated)}) + DONE

    def models(self, limits: Limits, _created: int) -> bytes:
        """See ``Dialect``."""
        card = {"id": limits.model, "object": "model", "created": 0, "owned_by": limits.model}
        return orjson.dumps({"object": "list", "data": [card]})

    def pages(self, limits: Limits) -> Mapping[bytes, bytes]:
        """See ``Dialect``."""
        info = {
            "model_id": limits.model,
            "model_sha": None,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": tgi.most_requests(limits.max_batch_size),
            "max_best_of": MAX_BEST_OF,
            "max_stop_sequences": MAX_STOPS,
            "max_input_tokens": limits.context_tokens - 1,
            "max_total_tokens": limits.context_tokens,
            "validation_workers": VALIDATION_WORKERS,
            "max_client_batch_size": MAX_PROMPTS,
            "router": "text-generation-router",
            "version": VERSION,
            "sha": None,
            "docker_label": "emulated",
        }
        return {b"/info": orjson.dumps(info)}

    def metrics(self, reading: Reading) -> str:
        """See ``Dialect``."""
        counters, names = reading.counters, tgi.METRICS
        lines = [
            f"# TYPE {names.running} gauge",
            f"{names.running} {reading.running}",
            f"# TYPE {names.waiting} gauge",
            f"{names.waiting} {reading.waiting}",
            "# TYPE tgi_batch_current_max_tokens gauge",
            f"tgi_batch_current_max_tokens {reading.kv_tokens}",
            "# TYPE tgi_request_count counter",
            f"tgi_request_count {counters.asked}",
            f"# TYPE {names.finished} counter",
            f"{names.finished} {counters.length + counters.stop}",
        ]
        return "\n".join(lines) + "\n"


def _head(identity: Identity, kind: str) -> dict[str, object]:
    return {
        "object": kind,
        "id": "",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": FINGERPRINT,
    }


def _choice(_wanted: Wanted, index: int, output: Output) -> Mapping[str, object]:
    return {"index": index, "text": output.text, "logprobs": None, "finish_reason": _reason(output)}


def _chat_choice(wanted: Wanted, index: int, output: Output) -> Mapping[str, object]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": output.text},
        "logprobs": _logprobs(output, wanted.logprobs, range(output.tokens)),
        "finish_reason": _reason(output),
    }


def _usage(prompt: int, generated: int) -> Mapping[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _reason(output: Output) -> str:
    return "length" if output.stop is None else "stop"


def _logprobs(output: Output, alternatives: int | None, tokens: Sequence[int]) -> object:
    if alternatives is None:
        return None
    content = []
    for token in tokens:
        written, *others = (
            {"token": guess.token, "logprob": guess.logprob}
            for guess in guesses(output, token, max(0, alternatives - 1))
        )
        content.append({**written, "top_logprobs": [written, *others][:alternatives]})
    return {"content": content}
