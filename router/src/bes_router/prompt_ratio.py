"""How many characters make a prompt token: learned per task from what engines say in `usage`, a sample of answers.

The figures come from engines and depend on what clients write, so each one is bounded before it counts.
"""

import re

CHARACTERS_PER_TOKEN = 4.0
LEAST, MOST = 1.0, 20.0
WEIGHT = 1.0 / 16.0  # of one answer, relative to the mean's present size
SHORT_CHARACTERS = 32  # below, a token or two of the template or of rounding say more than the text
LONG_CHARACTERS = 16_384  # a longer prompt weighs no more than this: one client must not own the mean
EVERY_ONE = 32  # so many answers are all read, then one in EVERY
EVERY = 16
TAIL_BYTES = 512
"""So many last bytes of an answer's body hold its `usage`."""
_BORDER = re.compile(rb"\r\n[0-9a-fA-F]{1,8}\r\n")  # between two chunks of a stream; JSON text has no such line
_PROMPT_TOKENS = re.compile(rb'"usage"\s*:\s*\{.{0,400}?"prompt_tokens"\s*:\s*([0-9]{1,9})\s*[,}]', re.DOTALL)
PRIOR = 4.0  # what is assumed at the start weighs as much as so many prompts


class PromptRatio:
    """The mean of one task, as characters and tokens that fade together."""

    __slots__ = ("_asked", "_characters", "_tokens", "value")

    def __init__(self) -> None:
        self.value = CHARACTERS_PER_TOKEN
        self._asked = 0
        self._characters = 0.0
        self._tokens = 0.0

    def wants(self) -> bool:
        """Whether the next answer's `usage` is to be read."""
        self._asked += 1
        return self._asked <= EVERY_ONE or not self._asked % EVERY

    def learn(self, characters: int, tokens: int) -> None:
        """Take one prompt of ``characters`` that an engine counted as ``tokens``."""
        if characters < SHORT_CHARACTERS or tokens <= 0:
            return
        size = min(characters, LONG_CHARACTERS)
        ratio = min(MOST, max(LEAST, characters / tokens))
        fade = 1.0 - WEIGHT
        if not self._tokens:
            self._characters, self._tokens = PRIOR * size, PRIOR * size / CHARACTERS_PER_TOKEN
        self._characters = fade * self._characters + size
        self._tokens = fade * self._tokens + size / ratio
        self.value = self._characters / self._tokens


def prompt_tokens(tail: bytes) -> int | None:
    """The engine's count in the last bytes of an answer's body (JSON, or a stream with a usage chunk); None if absent.

    Bytes that only look like it cannot come from an answer's text: quotes are escaped there.
    """
    found = _PROMPT_TOKENS.findall(_BORDER.sub(b"", tail))
    return int(found[-1]) if found else None
