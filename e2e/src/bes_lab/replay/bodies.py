"""The bodies that a replay sends: prompts of an exact length, one body per kind of request."""

from collections.abc import Sequence

import orjson

from bes_api.scenario import ScenarioTask
from bes_lab.clips import Arrivals

# Three letters and a space: a tokenizer of words and the usual estimate of four characters a token agree on these.
_WORDS = (
    "how",
    "far",
    "can",
    "one",
    "act",
    "now",
    "and",
    "yet",
    "get",
    "the",
    "sum",
    "due",
    "ere",
    "ten",
    "ask",
    "for",
)


def prompt(tokens: int) -> str:
    """A prompt of that many words, four characters each."""
    return "".join(f"{_WORDS[index % len(_WORDS)]} " for index in range(tokens))


def bodies_of(
    arrivals: Arrivals, tasks: Sequence[ScenarioTask], model: str | None = None, *, stream: bool = False
) -> list[bytes]:
    """One body per request. They name the task, or ``model`` where a plain engine is replayed to."""
    made: dict[tuple[int, int, int], bytes] = {}
    bodies = []
    kinds = zip(arrivals.task.tolist(), arrivals.prompt_tokens.tolist(), arrivals.output_tokens.tolist(), strict=True)
    for kind in kinds:
        body = made.get(kind)
        if body is None:
            task, prompt_tokens, output_tokens = kind
            document: dict[str, object] = {
                "model": model or tasks[task].name,
                "prompt": prompt(prompt_tokens),
                "max_tokens": output_tokens,
            }
            if stream:
                document |= {"stream": True, "stream_options": {"include_usage": True}}
            body = made[kind] = orjson.dumps(document)
        bodies.append(body)
    return bodies
