"""Types that the decision's plain functions read: named tuples of flat arrays, the same for lists and numpy arrays.

The router fills them with Python lists (the quickest thing to index there), the simulator with numpy arrays. Matrices
are flat, row by row. Times are seconds, lengths tokens. These classes live apart from the functions because the
functions are loaded twice (plainly, and compiled by bes_training) while their types must be the same in both.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Floats(Protocol):
    """Numbers by index: a list or a numpy array."""

    def __getitem__(self, index: int, /) -> float: ...
    def __iter__(self) -> Iterator[float]: ...
    def __len__(self) -> int: ...


class Ints(Protocol):
    """Whole numbers by index."""

    def __getitem__(self, index: int, /) -> int: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...


class MutableFloats(Floats, Protocol):
    """Numbers by index that can be set."""

    def __setitem__(self, index: int, value: float, /) -> None: ...


class MutableInts(Ints, Protocol):
    """Whole numbers by index that can be set."""

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Catalogue(NamedTuple):
    """What never changes while a scenario serves: M models, E engines (backends), G GPUs, T tasks.

    Engines are sorted by model: those of model ``m`` are ``model_first[m] .. model_first[m + 1] - 1``. Those on GPU
    ``g`` are ``gpu_engine[gpu_first[g] .. gpu_first[g + 1] - 1]``.
    """

    prefill_base: Floats  # [M] seconds
    prefill_token: Floats  # [M] seconds per prompt token
    decode_base: Floats  # [M] seconds
    decode_sequence: Floats  # [M] seconds per sequence
    decode_context: Floats  # [M] seconds per token of context
    chunked: Ints  # [M] 1 = chunked prefill, 0 = prefill first
    prefill_budget: Ints  # [M] prompt tokens per iteration
    max_batch: Ints  # [M] sequences
    kv_tokens: Ints  # [M] tokens
    context: Ints  # [M] tokens
    work: Floats  # [M] seconds of GPU time that one typical request adds to a busy engine
    size: Floats  # [M] log of work relative to the middle model's
    model_first: Ints  # [M + 1]
    engine_model: Ints  # [E]
    engine_gpu: Ints  # [E]
    gpu_first: Ints  # [G + 1]
    gpu_engine: Ints  # [E]
    engine_on: Ints  # [G * M] an engine of that model on that GPU, or -1
    interference: Floats  # [G] 0..1
    quality: Floats  # [T * M], below 0 where the task states none
    best_quality: Floats  # [T]
    full_until: Floats  # [T] seconds after arrival
    zero_from: Floats  # [T] seconds after arrival
    first_token: Ints  # [T] 1 = the deadline looks at the first token
    abort: Ints  # [T] 1 = a late request is aborted
    prompt_tokens: Ints  # [T] typical
    output_tokens: Ints  # [T] typical


class LoadView(NamedTuple):
    """The load as one router believes it to be, and what it did lately. Policies read it and never write to it."""

    load: Floats  # [E] requests in flight, the blended estimate
    model_load: Floats  # [M] their sum over the ready engines of a model
    gpu_load: Floats  # [G] their sum over a GPU
    gpu_busy: Floats  # [G] engines at work: the sum of min(1, load)
    ready: Ints  # [E] 1 = may be chosen
    ready_count: Ints  # [M]
    sent_engine: Floats  # [E] when this router last sent something there
    sent_gpu: Floats  # [G]
    last_engine: Ints  # [M] the engine of that model that was last sent to
    rate_fast: float  # requests per second at the whole service, averaged over 0.5 s
    rate_slow: float  # ... over 2 s
    guessed: float  # 0..1: how much of the load is guessed, because figures are old and others send too


class RoutingRequest(NamedTuple):
    """What a decision may know of a request. Times are on the same clock as ``now``."""

    task: int
    prompt_tokens: int
    output_tokens: int
    full_until: float  # instant until which the reward is full
    zero_from: float  # instant from which it is 0
    pinned: int = -1  # model index, or -1


class Decision(NamedTuple):
    """Where a request goes. ``engine`` below 0: no model was eligible."""

    model: int
    engine: int
