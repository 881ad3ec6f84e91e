"""What an emulated engine writes: filler text, one word a token, the same for the same seed, and filler probabilities.

Nothing here is a model's: a seed chooses where in one sentence the text begins, a probability is a hash of its place.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from zlib import crc32

_SENTENCE = "the model that still answers in time is the best that this moment can give, a late one is worth nothing;"
_WORDS = tuple(_SENTENCE.split(" "))
_ENDS = tuple(accumulate((len(word) + 1 for word in _WORDS * 2), initial=0))
_STEP = 7
"""Words between the beginnings of a request's choices: no divisor of the sentence, so that choices differ."""


def start_of(seed: int | None, choice: int) -> int:
    """Where in the sentence a choice begins; without a seed the first one begins at the sentence's own begin."""
    drawn = 0 if seed is None else crc32(str(seed).encode())
    return (drawn + choice * _STEP) % len(_WORDS)


@lru_cache(maxsize=256)
def _text(start: int, tokens: int) -> str:
    return "".join(" " + _WORDS[(start + index) % len(_WORDS)] for index in range(tokens))


@dataclass(frozen=True, slots=True)
class Output:
    """One choice as it will have been written: ``tokens`` is the work, ``text`` ends before a stop string."""

    start: int
    tokens: int
    text: str
    stop: str | None
    """The stop string that ended it; None: it has the length that was asked for."""

    def piece(self, token: int) -> str:
        """The text of one token; what belongs to the stop string is not part of it."""
        word = " " + _WORDS[(self.start + token) % len(_WORDS)]
        if self.stop is None:
            return word
        return word[: max(0, len(self.text) - self.offset(token))]

    def offset(self, token: int) -> int:
        """Characters before a token."""
        rounds, rest = divmod(token, len(_WORDS))
        return rounds * _ENDS[len(_WORDS)] + _ENDS[self.start + rest] - _ENDS[self.start]


@lru_cache(maxsize=256)
def written(start: int, most_tokens: int, stops: tuple[str, ...]) -> Output:
    """The choice that begins at ``start`` and ends with the first stop string, at most ``most_tokens`` long."""
    text = _text(start, most_tokens)
    ends = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not ends:
        return Output(start, most_tokens, text, None)
    end, at, stop = min(ends)
    return Output(start, text.count(" ", 0, end), text[:at], stop)


@dataclass(frozen=True, slots=True)
class Guess:
    """A token and its logarithmic probability."""

    token: str
    logprob: float


def guesses(output: Output, token: int, alternatives: int) -> tuple[Guess, ...]:
    """The token that was written, then ``alternatives`` less probable ones."""
    found = [Guess(output.piece(token), _logprob(output.start, token, 0))]
    for other in range(1, alternatives + 1):
        word = " " + _WORDS[(output.start + token + other) % len(_WORDS)]
        found.append(Guess(word, found[-1].logprob + _logprob(output.start, token, other)))
    return tuple(found)


def _logprob(start: int, token: int, rank: int) -> float:
    return -(1 + crc32(b"%d/%d/%d" % (start, token, rank)) % 1024) / 1024
