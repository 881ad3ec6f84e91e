"""A chat template for models that bring none (OPT): as Jinja for the engines, and as a function for whoever counts.

Both say the same (a test renders both). OPT was never tuned to chat: the template makes the endpoint work, no more.
"""

import json
from collections.abc import Iterable

BEGIN_OF_TEXT = "</s>"
"""OPT's `bos_token`, which is its `eos_token` too."""

JINJA = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def rendered(messages: Iterable[tuple[str, str]]) -> str:
    """What the template makes of (role, content) pairs, with the prompt for an answer behind them."""
    turns = "".join(f"{role.capitalize()}: {content.strip()}\n" for role, content in messages)
    return f"{BEGIN_OF_TEXT}{turns}Assistant:"


def jinja_file() -> str:
    """The template alone."""
    return JINJA


def tokenizer_config_file() -> str:
    """The template inside a tokenizer configuration, where text-generation-inference looks for it."""
    return json.dumps(
        {
            "chat_template": JINJA,
            "bos_token": BEGIN_OF_TEXT,
            "eos_token": BEGIN_OF_TEXT,
            "tokenizer_class": "GPT2Tokenizer",
        },
        indent=2,
    )


def brings_no_template(model_id: str) -> bool:
    """Whether the model's repository on the hub is known to hold no chat template: the OPT family's."""
    return model_id.startswith("facebook/opt-")
